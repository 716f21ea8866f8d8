package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/spec"
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

// markSource is a schema whose message has its text in that field.
func markSource(field int) string {
	return fmt.Sprintf("package hot; message M { string mark = %d; } service Change { rpc Call(M) returns (M); }", field)
}

// markRoute is a route whose rule writes a number into that field.
func markRoute(backend string, number int) string {
	return fmt.Sprintf(`{name: hot, match: [{method: %s}], mode: struct, schema: {name: hot}, backends: [{endpoints: [{address: %q}]}],
struct: {rules: [{on: request, action: set, fields: {mark: '"%d"'}}]}}`, markMethod, backend, number)
}

const markMethod = "/hot.Change/Call"

// markOf is the answer of an echoing backend behind markRoute, with the schema of markSource.
func markOf(field, number int) string {
	tag := protowire.AppendTag(nil, protowire.Number(field), protowire.BytesType)
	return string(protowire.AppendString(tag, fmt.Sprint(number)))
}

// readMark takes markOf apart.
func readMark(answer string) (field, number int, err error) {
	n, _, size := protowire.ConsumeTag([]byte(answer))
	if size < 0 {
		return 0, 0, protowire.ParseError(size)
	}
	text, size := protowire.ConsumeBytes([]byte(answer)[size:])
	if size < 0 {
		return 0, 0, protowire.ParseError(size)
	}
	number, err = strconv.Atoi(string(text))
	return int(n), number, err
}

// replacements notes when each version of something, which are numbers in order, was replaced.
type replacements struct {
	first int // set once

	mu sync.Mutex  // guards at
	at []time.Time // at[i]: when version first+i was
}

func (r *replacements) add() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = append(r.at, time.Now())
}

// before reports whether the version had been replaced by then.
func (r *replacements) before(version int, then time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := version - r.first
	return i < len(r.at) && r.at[i].Before(then)
}

// Rules and schema change fifty times a second: no call fails, and each answer is that of a rule and of a schema that was
// stored, and not replaced for longer than a change may take to be live when the call began. The rule writes its own
// number, and the schema decides into which field.
func TestStruct_ChangesOfRulesAndSchemaUnderLoadFailNoCall(t *testing.T) {
	const (
		changes   = 150
		pace      = 20 * time.Millisecond // of the changes; a busy machine makes fewer
		perSecond = 400                   // calls
	)
	proxy := testbed.NewProxy(t, "", testbed.EmbeddedEtcd(t))
	etcd := newStructEtcd(t, proxy)
	backend := testbed.NewRaw(t, echoAll)
	var schemas []*schema.Schema // in advance: compiling them takes its time
	for field := range changes/2 + 1 {
		schemas = append(schemas, schemaOf(t, markSource(field+1)))
	}
	field, rule := 1, 0
	etcd.putSchema("hot", schemas[field-1])
	etcd.putRoute(markRoute(backend, rule))
	cc := testbed.DialGRPC(t, proxy.Addr)
	awaitAnswer(t, cc, markMethod, markOf(field, rule))

	oldSchemas, oldRules := &replacements{first: 1}, &replacements{}
	l := startLoad(t, cc, markMethod, perSecond, time.Now, func(began time.Time, answer string) error {
		field, rule, err := readMark(answer)
		switch {
		case err != nil:
			return err
		case oldSchemas.before(field, began.Add(-liveWithin)):
			return fmt.Errorf("a call was answered with schema %d long after it was replaced", field)
		case oldRules.before(rule, began.Add(-liveWithin)):
			return fmt.Errorf("a call was answered with rule %d long after it was replaced", rule)
		}
		return nil
	})
	tick := time.NewTicker(pace)
	defer tick.Stop()
	began := time.Now()
	for i := range changes {
		<-tick.C
		if i%2 == 0 {
			rule++
			etcd.putRoute(markRoute(backend, rule))
			oldRules.add()
		} else {
			field++
			etcd.putSchema("hot", schemas[field-1])
			oldSchemas.add()
		}
	}
	l.stop()
	t.Logf("%d calls in %s of %d changes", l.made, time.Since(began), changes)
	require.Empty(t, l.failed)
	require.Greater(t, l.made, changes, "calls meanwhile")
	awaitAnswer(t, cc, markMethod, markOf(field, rule))
}

// A put that does not fit is refused and changes nothing, whichever of the two is put.
func TestStruct_WhatDoesNotFitChangesNothing(t *testing.T) {
	t.Parallel()
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
	wrong, err := spec.ParseRoute([]byte(document("title")))
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
