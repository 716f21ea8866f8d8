package structmode

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/spec"
)

// twentyFields returns a schema whose method /b.B/Say takes and gives messages of 20 fields, and one of 1 KiB.
func twentyFields(t testing.TB) (*schema.Schema, []byte) {
	t.Helper()
	var b strings.Builder
	b.WriteString("syntax = \"proto3\"; package b; message M {\n")
	for i := 1; i <= 10; i++ {
		fmt.Fprintf(&b, "string s%d = %d; int64 n%d = %d;\n", i, i, i, 10+i)
	}
	b.WriteString("}\nservice B { rpc Say(M) returns (M); }")
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(map[string]string{"b.proto": b.String()}),
	}}
	files, err := compiler.Compile(t.Context(), "b.proto")
	require.NoError(t, err)
	s, err := schema.FromSet(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(files[0])}})
	require.NoError(t, err)
	m := dynamicpb.NewMessage(s.Method("/b.B/Say").Input())
	for i := 1; i <= 10; i++ {
		m.Set(m.Descriptor().Fields().ByName(protoreflect.Name(fmt.Sprintf("s%d", i))), protoreflect.ValueOfString(strings.Repeat("x", 96)))
		m.Set(m.Descriptor().Fields().ByName(protoreflect.Name(fmt.Sprintf("n%d", i))), protoreflect.ValueOfInt64(int64(i)<<40))
	}
	enc, err := proto.Marshal(m)
	require.NoError(t, err)
	return s, enc
}

// fieldsDirection is the request direction of a call with that rule, for messages of twentyFields.
func fieldsDirection(t testing.TB, ctx context.Context, s *schema.Schema, rule string) *direction {
	t.Helper()
	route, err := spec.ParseRoute([]byte("{name: r, mode: struct, schema: {name: s}, match: [{method: \"*\"}], backends: [{endpoints: [{address: \"h:1\"}]}], struct: {rules: [{on: request, " + rule + "}]}}"))
	require.NoError(t, err)
	p, err := CompileRoute(route, s)
	require.NoError(t, err)
	st := &Transformer{mode: New(Config{Budget: budget.New(1 << 30)}), ctx: ctx}
	st.call.Context = ctx
	st.openRoom()
	d := &st.request
	d.of, d.whose, d.rules, d.codec = st, "request", p.(*program).rules.Method("/b.B/Say").Request, protoCodec{}
	return d
}

func BenchmarkTake(b *testing.B) {
	s, msg := twentyFields(b)
	d := fieldsDirection(b, b.Context(), s, "when: 'message.s1 == \"blocked\"', action: reject")
	b.ReportAllocs()
	b.SetBytes(int64(len(msg)))
	for b.Loop() {
		if _, forward, err := d.TakeMessage(0, msg); err != nil || !forward {
			b.Fatal(err)
		}
		d.share.Free() // as redirect does
	}
}
