package fanout

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/framegate/framegate/test/testbed"
)

// nodes starts n backends that answer each message m with the reply {1: {1: m}}, or, if stream says so, with {1: m}, and returns
// the list of their endpoints in YAML.
func nodes(t *testing.T, n int, kind kind) (endpoints string) {
	var list []string
	for i := range n {
		addr := testbed.NewRaw(t, kind.serve)
		list = append(list, fmt.Sprintf(`{address: %q, tags: {node: node_%d}}`, addr, i))
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// kind is one of the four kinds of call.
type kind struct {
	name                 string
	clients, servers     bool // which side streams
	requests, perRequest int
}

var kinds = []kind{
	{"unary", false, false, 1, 1},
	{"server", false, true, 1, 3},
	{"client", true, false, 3, 0},
	{"bidi", true, true, 3, 1},
}

func (k kind) serve(s grpc.ServerStream) error {
	var got []string
	for {
		m, err := testbed.Recv(s)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		got = append(got, string(m))
		if k.servers {
			for i := range k.perRequest {
				if err := testbed.Send(s, field(1, []byte(fmt.Sprintf("%s/%d", m, i)))); err != nil {
					return err
				}
			}
		}
	}
	if k.servers {
		return nil
	}
	return testbed.Send(s, field(1, field(1, []byte(strings.Join(got, "+")))))
}

func field(num protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), value)
}

// route is a route with a fan-out.
func route(endpoints, mode, keys string) string {
	return fmt.Sprintf(`
name: many
match: [{method: "*"}]
mode: %s
backends: [{endpoints: %s}]
fanout:
  targets: {from: metadata, key: nodes}
  %s
`, mode, endpoints, strings.ReplaceAll(strings.TrimSpace(keys), "\n", "\n  "))
}

// call makes a call of the kind and returns the messages of the answer.
func call(ctx context.Context, t *testing.T, cc *grpc.ClientConn, k kind, names ...string) ([][]byte, error) {
	for _, name := range names {
		ctx = metadata.AppendToOutgoingContext(ctx, "nodes", name)
	}
	s, err := testbed.Call(ctx, cc)
	require.NoError(t, err)
	for i := range k.requests {
		if testbed.Send(s, []byte(fmt.Sprintf("m%d", i))) != nil {
			break // the call has ended: Recv says how
		}
	}
	require.NoError(t, s.CloseSend())
	var all [][]byte
	for {
		m, err := testbed.Recv(s)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, m)
	}
}

// element is a part of an answer: what a target sent, and the origin that framegate has appended.
type element struct {
	text, node, err string
	status          *statuspb.Status // nil for none
}

// elementOf takes a message of fields 1 (text) and 99 (origin) apart.
func elementOf(t *testing.T, b []byte) (e element) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		require.Equal(t, protowire.BytesType, typ)
		v, k := protowire.ConsumeBytes(b[n:])
		require.GreaterOrEqual(t, k, 0)
		b = b[n+k:]
		if num == 1 {
			e.text = string(v)
			continue
		}
		require.EqualValues(t, 99, num)
		for len(v) > 0 {
			num, _, n := protowire.ConsumeTag(v)
			text, k := protowire.ConsumeBytes(v[n:])
			v = v[n+k:]
			switch num {
			case 1:
				e.node = string(text)
			case 2:
				e.err = string(text)
			case 3:
				e.status = new(statuspb.Status)
				require.NoError(t, proto.Unmarshal(text, e.status))
			}
		}
	}
	return e
}

// elements returns the elements of an answer: of one message, its list; of a stream, its messages.
func elements(t *testing.T, k kind, messages [][]byte) (all []element) {
	if k.servers {
		for _, m := range messages {
			all = append(all, elementOf(t, m))
		}
		return all
	}
	require.Len(t, messages, 1)
	for b := messages[0]; len(b) > 0; {
		num, _, n := protowire.ConsumeTag(b)
		require.EqualValues(t, 1, num)
		v, k := protowire.ConsumeBytes(b[n:])
		b = b[n+k:]
		all = append(all, elementOf(t, v))
	}
	return all
}

// Each target gets the whole request, and the answer has all that each target sent, in its order.
func TestFanout_EveryKindOfCallInEveryMode(t *testing.T) {
	for _, n := range []int{3, 50} {
		for _, k := range kinds {
			for _, mode := range []string{"frame", "struct"} {
				t.Run(fmt.Sprintf("%d targets/%s/%s", n, k.name, mode), func(t *testing.T) {
					t.Parallel()
					keys := ""
					if !k.servers {
						keys = `methods: {unary: ["*"]}`
					}
					p := testbed.NewProxy(t, route(nodes(t, n, k), mode, keys))
					ctx, cancel := context.WithTimeout(t.Context(), testbed.Patience)
					defer cancel()
					messages, err := call(ctx, t, testbed.DialGRPC(t, p.Addr), k)
					require.NoError(t, err)
					got := map[string][]string{}
					for _, e := range elements(t, k, messages) {
						require.Empty(t, e.err)
						got[e.node] = append(got[e.node], e.text)
					}
					require.Len(t, got, n)
					for node, texts := range got {
						require.Equal(t, k.want(), texts, node)
					}
				})
			}
		}
	}
}

// want returns the texts that a target sends.
func (k kind) want() (texts []string) {
	var sent []string
	for i := range k.requests {
		sent = append(sent, fmt.Sprintf("m%d", i))
		for j := range k.perRequest {
			texts = append(texts, fmt.Sprintf("m%d/%d", i, j))
		}
	}
	if k.servers {
		return texts
	}
	return []string{strings.Join(sent, "+")}
}

func TestFanout_TheClientNamesTargets(t *testing.T) {
	t.Parallel()
	k := kinds[0]
	addrs := []string{testbed.NewRaw(t, k.serve), testbed.NewRaw(t, k.serve), testbed.NewRaw(t, k.serve)}
	p := testbed.NewProxy(t, route(fmt.Sprintf(`[{address: %q, tags: {node: a}}, {address: %q, tags: {node: b}}, {address: %q}]`, addrs[0], addrs[1], addrs[2]), "frame", "methods: {unary: [\"*\"]}\norder: targets"))
	cc := testbed.DialGRPC(t, p.Addr)
	for name, c := range map[string]struct{ names, want []string }{
		"one":                 {[]string{"b"}, []string{"b"}},
		"joined by commas":    {[]string{" b ,a,"}, []string{"b", "a"}},
		"several values":      {[]string{"a", addrs[2]}, []string{"a", addrs[2]}},
		"one twice":           {[]string{"a", "a", addrs[0]}, []string{"a"}},
		"unknown among known": {[]string{"a", "127.0.0.1:1", "b"}, []string{"a", "127.0.0.1:1 unknown node", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			messages, err := call(t.Context(), t, cc, k, c.names...)
			require.NoError(t, err)
			var got []string
			for _, e := range elements(t, k, messages) {
				got = append(got, strings.TrimSpace(e.node+" "+e.err))
			}
			require.Equal(t, c.want, got)
		})
	}
	messages, err := call(t.Context(), t, cc, k)
	require.NoError(t, err)
	var got []string
	for _, e := range elements(t, k, messages) {
		got = append(got, e.node)
	}
	slices.Sort(got)
	require.Len(t, got, 3)
}
