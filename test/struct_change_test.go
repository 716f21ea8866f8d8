package test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/test/testbed"
)

// protoFile writes a .proto file with that source and returns its path.
func protoFile(t testing.TB, source string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "schema.proto")
	require.NoError(t, os.WriteFile(path, []byte("syntax = \"proto3\";\n"+source), 0o600))
	return path
}

// schemaOf is the schema in a .proto file with that source.
func schemaOf(t testing.TB, source string) *schema.Schema {
	t.Helper()
	s, err := schema.Load(patient(t), []string{protoFile(t, source)}, nil)
	require.NoError(t, err)
	return s
}

// Rules and schema change fifty times a second: no call fails, and each answer is that of a rule and a schema that were
// in force together between the call's start and its end. The rule writes its own number into a field, and the schema
// decides which field that is.
func TestStruct_ChangesOfRulesAndSchemaUnderLoadFailNoCall(t *testing.T) {
	const (
		span    = 5 * time.Second
		changes = 50  // a second
		calls   = 500 // a second
		method  = "/hot.Change/Call"
	)
	proxy := testbed.NewProxy(t, "", testbed.EmbeddedEtcd(t))
	etcd := newStructEtcd(t, proxy)
	backend := testbed.NewRaw(t, echoAll)
	schemas := make([]*schema.Schema, 2)
	for i := range schemas {
		schemas[i] = schemaOf(t, fmt.Sprintf("package hot; message M { string mark = %d; } service Change { rpc Call(M) returns (M); }", i+1))
	}
	document := func(number int) string {
		return fmt.Sprintf(`{name: hot, match: [{method: %s}], mode: struct, schema: {name: hot}, backends: [{endpoints: [{address: %q}]}],
struct: {rules: [{on: request, action: set, fields: {mark: '"%d"'}}]}}`, method, backend, number)
	}
	answer := func(field, rule int) string {
		return string(protowire.AppendString(protowire.AppendTag(nil, protowire.Number(field), protowire.BytesType), fmt.Sprint(rule)))
	}

	h := &history{}
	field, rule := 1, 0
	change := func(put func() int64) {
		h.begin(answer(field, rule))
		h.done(put())
	}
	putRoute := func() int64 { return etcd.putRoute(document(rule)) }
	putSchema := func() int64 { return etcd.putSchema("hot", schemas[field-1]) }
	putSchema()
	change(putRoute)
	cc := testbed.DialGRPC(t, proxy.Addr)
	awaitAnswer(t, cc, method, answer(field, rule))
	l := startLoad(t, cc, method, calls,
		func() int64 { return proxy.Source().Revision },
		func(revision int64, reply string) error {
			if !h.since(revision, reply) {
				return fmt.Errorf("a call that began at revision %d was answered with %q", revision, reply)
			}
			return nil
		})
	tick := time.NewTicker(time.Second / changes)
	defer tick.Stop()
	made := 0
	for began := time.Now(); time.Since(began) < span; made++ {
		<-tick.C
		if made%2 == 0 {
			rule++
			change(putRoute)
		} else {
			field = 3 - field
			change(putSchema)
		}
	}
	l.stop()
	t.Logf("%d changes and %d calls in %s", made, l.made, span)
	require.Empty(t, l.failed)
	require.Greater(t, made, changes*int(span/time.Second)/4)
	require.Greater(t, l.made, calls*int(span/time.Second)/4)
}

// A put that does not fit is refused and changes nothing, whichever of the two is put.
func TestStruct_WhatDoesNotFitChangesNothing(t *testing.T) {
	const method = "/shop.Shop/Buy"
	proxy := testbed.NewProxy(t, "", testbed.EmbeddedEtcd(t))
	etcd := newStructEtcd(t, proxy)
	backend := testbed.NewRaw(t, echoAll)
	const source = "package shop; message Order { string %s = 1; } service Shop { rpc Buy(Order) returns (Order); }"
	document := func(field string) string {
		return fmt.Sprintf(`{name: shop, match: [{method: %s}], mode: struct, schema: {name: shop}, backends: [{endpoints: [{address: %q}]}],
struct: {rules: [{on: request, action: set, fields: {%s: '"new"'}}]}}`, method, backend, field)
	}
	etcd.putSchema("shop", schemaOf(t, fmt.Sprintf(source, "name")))
	etcd.putRoute(document("name"))
	cc := testbed.DialGRPC(t, proxy.Addr)
	want := string(text("new"))
	awaitAnswer(t, cc, method, want)

	_, err := etcd.schemas.Put(patient(t), "shop", schemaOf(t, fmt.Sprintf(source, "title")))
	require.ErrorContains(t, err, `struct.rules[0].fields["name"]: shop.Order has no field "name"`)
	wrong, err := resolver.ParseRoute([]byte(document("title")))
	require.NoError(t, err)
	_, err = etcd.routes.Put(patient(t), wrong)
	require.ErrorContains(t, err, `struct.rules[0].fields["title"]: shop.Order has no field "title"`)
	_, err = etcd.schemas.Delete(patient(t), "shop")
	require.ErrorContains(t, err, "in use by route shop")
	require.Equal(t, want, answerOf(t, cc, method))

	// Written past the checks, a schema that does not fit leaves the last good one in force.
	marker := func(i int) {
		name := fmt.Sprint("marker", i)
		_, err := etcd.cli.Put(patient(t), "/framegate/routes/"+name, routeDocument(name, "/a.B/"+name, backend))
		require.NoError(t, err)
		awaitAnswer(t, cc, "/a.B/"+name, "")
	}
	for i, bad := range [][]byte{nil, {0xff}, schemaOf(t, fmt.Sprintf(source, "title")).Encode()} {
		_, err = etcd.cli.Put(patient(t), "/framegate/schemas/shop", string(bad))
		require.NoError(t, err)
		marker(i)
		require.Equal(t, want, answerOf(t, cc, method), "after schema %d", i)
	}
	_, err = etcd.cli.Delete(patient(t), "/framegate/schemas/shop")
	require.NoError(t, err)
	marker(9)
	require.Equal(t, want, answerOf(t, cc, method), "after the schema is gone")
}
