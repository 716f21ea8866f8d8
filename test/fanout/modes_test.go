package fanout

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	v1 "github.com/framegate/framegate/kitex_gen/framegate/v1"
	"github.com/framegate/framegate/test/fanout/cluster"
	"github.com/framegate/framegate/test/testbed"
)

// node is a server of cluster.Cluster, a service that is built for fan-out.
type node struct {
	cluster.UnimplementedClusterServer
	tag string
	err error
}

func (n node) GetVersion(context.Context, *cluster.VersionRequest) (*cluster.VersionReply, error) {
	return &cluster.VersionReply{Messages: []*cluster.Version{{Tag: n.tag, Features: []string{"a", "b"}}}}, n.err
}

func (n node) Logs(_ *cluster.VersionRequest, s grpc.ServerStreamingServer[cluster.LogLine]) error {
	for i := range 3 {
		if err := s.Send(&cluster.LogLine{Text: fmt.Sprint(n.tag, " line ", i)}); err != nil {
			return err
		}
	}
	return n.err
}

// The ordinary stubs of a service that is built for it read the answer of all nodes.
func TestFanout_GeneratedClientReadsTheAnswer(t *testing.T) {
	t.Parallel()
	var list []string
	for i, n := range []node{{tag: "v1"}, {tag: "v2"}, {err: status.Error(codes.FailedPrecondition, "in maintenance")}} {
		s := grpc.NewServer()
		cluster.RegisterClusterServer(s, n)
		list = append(list, fmt.Sprintf(`{address: %q, tags: {node: node_%d}}`, testbed.ServeGRPC(t, s), i+1))
	}
	p := testbed.NewProxy(t, route("["+strings.Join(list, ", ")+"]", "frame", "order: targets\nmethods: {unary: [/cluster.Cluster/GetVersion]}\naggregate: {status_field: 3}"))
	cc, err := grpc.NewClient(p.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer cc.Close()
	client := cluster.NewClusterClient(cc)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "nodes", "node_1,node_2,node_3,node_4")

	reply, err := client.GetVersion(ctx, &cluster.VersionRequest{})
	require.NoError(t, err)
	var got []string
	for _, m := range reply.Messages {
		require.Empty(t, m.ProtoReflect().GetUnknown())
		got = append(got, fmt.Sprintf("%s %s %v %s %d", m.Origin.Node, m.Tag, m.Features, m.Origin.Error, m.Origin.Status.GetCode()))
	}
	require.Equal(t, []string{"node_1 v1 [a b]  0", "node_2 v2 [a b]  0", "node_3  [] in maintenance 9", "node_4  [] unknown node 5"}, got)

	logs, err := client.Logs(ctx, &cluster.VersionRequest{})
	require.NoError(t, err)
	lines := map[string][]string{}
	for {
		line, err := logs.Recv()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		lines[line.Origin.Node] = append(lines[line.Origin.Node], line.Text+line.Origin.Error)
	}
	require.Equal(t, map[string][]string{
		"node_1": {"v1 line 0", "v1 line 1", "v1 line 2"}, "node_2": {"v2 line 0", "v2 line 1", "v2 line 2"},
		"node_3": {" line 0", " line 1", " line 2", "in maintenance"}, "node_4": {"unknown node"},
	}, lines)
}

// The vector of a reply on the wire.
func TestFanout_Vector(t *testing.T) {
	t.Parallel()
	reply, err := hex.DecodeString("0a050a03626172")
	require.NoError(t, err)
	addr := testbed.NewRaw(t, func(s grpc.ServerStream) error { return testbed.Send(s, reply) })
	p := testbed.NewProxy(t, route(fmt.Sprintf(`[{address: %q, tags: {node: node_1}}]`, addr), "frame", "methods: {unary: [\"*\"]}\naggregate: {metadata_field: 99, node_field: 99}"))
	got, err := testbed.Unary(t.Context(), testbed.DialGRPC(t, p.Addr), nil)
	require.NoError(t, err)
	require.Equal(t, "0a110a036261729a06099a06066e6f64655f31", hex.EncodeToString(got))
}

// replying starts a backend that answers with messages, headers and trailers, after a wait.
func replying(t testing.TB, wait time.Duration, code codes.Code, messages ...string) string {
	return testbed.NewRaw(t, func(s grpc.ServerStream) error {
		select {
		case <-time.After(wait):
		case <-s.Context().Done():
			return s.Context().Err()
		}
		_ = s.SetHeader(metadata.Pairs("x-head", "h"))
		s.SetTrailer(metadata.Pairs("x-trail", "t"))
		for _, m := range messages {
			if err := testbed.Send(s, []byte(m)); err != nil {
				return err
			}
		}
		return status.Error(code, "text")
	})
}

func endpoints(addrs ...string) string {
	var list []string
	for i, addr := range addrs {
		list = append(list, fmt.Sprintf(`{address: %q, tags: {node: n%d}}`, addr, i))
	}
	return "[" + strings.Join(list, ", ") + "]"
}

func TestFanout_Envelope(t *testing.T) {
	t.Parallel()
	for name, unary := range map[string]bool{"one message": true, "stream": false} {
		t.Run(name, func(t *testing.T) {
			good, bad := replying(t, 0, codes.OK, "hello"), replying(t, 0, codes.NotFound)
			keys := "mode: envelope\norder: targets"
			if unary {
				keys += "\nmethods: {unary: [\"*\"]}"
			}
			p := testbed.NewProxy(t, route(endpoints(good, bad), "frame", keys))
			messages, err := call(t.Context(), t, testbed.DialGRPC(t, p.Addr), kinds[0], "n0", "n1", "n2")
			require.NoError(t, err)
			results := map[string]*v1.Result{}
			for _, m := range messages {
				var reply v1.FanoutReply
				require.NoError(t, reply.Unmarshal(m))
				for _, r := range reply.Results {
					require.Nil(t, results[r.Node], "one result a node")
					results[r.Node] = r
				}
			}
			require.Equal(t, unary, len(messages) == 1)
			require.Len(t, results, 3)
			require.Equal(t, "hello", string(results["n0"].Payload))
			require.Equal(t, []string{"h"}, values(results["n0"].Headers, "x-head"))
			require.EqualValues(t, codes.NotFound, results["n1"].Code)
			require.Equal(t, "text", results["n1"].Message)
			require.Nil(t, results["n1"].Payload)
			require.Equal(t, []string{"t"}, values(results["n1"].Trailers, "x-trail"))
			require.EqualValues(t, codes.NotFound, results["n2"].Code)
			require.Equal(t, "unknown node", results["n2"].Message)
			if unary {
				require.Equal(t, []string{"t"}, values(results["n0"].Trailers, "x-trail"))
			}
		})
	}
}

func values(fields []*v1.Field, name string) (all []string) {
	for _, f := range fields {
		if f.Name == name {
			for _, v := range f.Values {
				all = append(all, string(v))
			}
		}
	}
	return all
}

func TestFanout_First(t *testing.T) {
	t.Parallel()
	for _, unary := range []string{"methods: {unary: [\"*\"]}", ""} {
		for name, c := range map[string]struct {
			targets []string
			want    string
			code    codes.Code
		}{
			"the faster":       {[]string{replying(t, time.Hour, codes.OK, "slow"), replying(t, 0, codes.OK, "fast")}, "fast", codes.OK},
			"behind an error":  {[]string{replying(t, 0, codes.Internal), replying(t, 20*time.Millisecond, codes.OK, "good")}, "good", codes.OK},
			"nobody":           {[]string{replying(t, 0, codes.Internal), replying(t, 0, codes.NotFound)}, "", codes.Internal},
			"one is not there": {[]string{testbed.FreeAddress(t), replying(t, 0, codes.OK, "good")}, "good", codes.OK},
		} {
			t.Run(name+unary, func(t *testing.T) {
				p := testbed.NewProxy(t, route(endpoints(c.targets...), "frame", "mode: first\n"+unary))
				s, err := testbed.Call(t.Context(), testbed.DialGRPC(t, p.Addr))
				require.NoError(t, err)
				require.NoError(t, s.CloseSend())
				got, err := testbed.Recv(s)
				require.Equal(t, c.code, status.Code(err), "%v", err)
				require.Equal(t, c.want, string(got))
				if c.code == codes.OK {
					header, err := s.Header()
					require.NoError(t, err)
					require.Equal(t, []string{"h"}, header["x-head"])
					_, err = testbed.Recv(s)
					require.Equal(t, io.EOF, err)
					require.Equal(t, []string{"t"}, s.Trailer()["x-trail"])
				}
			})
		}
	}
}

func TestFanout_Quorum(t *testing.T) {
	t.Parallel()
	a := func() string { return replying(t, 0, codes.OK, "a", "b") }
	other, failing, slow := replying(t, 0, codes.OK, "a", "c"), replying(t, 0, codes.Internal, "a", "b"), replying(t, time.Hour, codes.OK, "a", "b")
	for name, c := range map[string]struct {
		targets []string
		n       int
		code    codes.Code
	}{
		"all alike":               {[]string{a(), a(), a()}, 3, codes.OK},
		"enough":                  {[]string{a(), other, a()}, 2, codes.OK},
		"without waiting":         {[]string{a(), slow, a()}, 2, codes.OK},
		"not alike":               {[]string{a(), other}, 2, codes.Aborted},
		"an error does not count": {[]string{a(), failing}, 2, codes.Aborted},
		"too few":                 {[]string{a(), a()}, 2, codes.Aborted},
	} {
		t.Run(name, func(t *testing.T) {
			p := testbed.NewProxy(t, route(endpoints(c.targets...), "frame", fmt.Sprintf("mode: quorum\nquorum: %d", c.n)))
			var names []string
			if name == "too few" {
				names = c.targets[:1]
			}
			messages, err := call(t.Context(), t, testbed.DialGRPC(t, p.Addr), kinds[0], names...)
			require.Equal(t, c.code, status.Code(err), "%v", err)
			if c.code == codes.OK {
				require.Equal(t, [][]byte{[]byte("a"), []byte("b")}, messages)
			} else {
				require.Empty(t, messages)
				require.Contains(t, err.Error(), "framegate: at most")
			}
		})
	}
}

// Compressed replies are joined decompressed, and targets are told only encodings that can be decompressed.
func TestFanout_CompressedReplies(t *testing.T) {
	t.Parallel()
	for _, unary := range []bool{true, false} {
		t.Run(fmt.Sprint("unary ", unary), func(t *testing.T) {
			reply := field(1, field(1, bytes.Repeat([]byte("x"), 1000)))
			var zipped bytes.Buffer
			w := gzip.NewWriter(&zipped)
			_, _ = w.Write(reply)
			require.NoError(t, w.Close())
			accepted := make(chan string, 10)
			serve := func(flag byte, encoding string, payload []byte) string {
				return testbed.ServeH2(t, func(s *testbed.H2Stream) func() {
					return func() {
						e, err := s.Next()
						if err != nil {
							return
						}
						accepted <- e.Fields.Get("grpc-accept-encoding")
						_ = s.TryHeaders(testbed.NewFields(":status", "200", "content-type", "application/grpc", "grpc-encoding", encoding))
						_ = s.TrySend(testbed.Message{Flag: flag, Payload: payload}.Bytes())
						_ = s.TryTrailers(testbed.NewFields("grpc-status", "0"))
					}
				}).Addr
			}
			keys := "order: targets"
			if unary {
				keys += "\nmethods: {unary: [\"*\"]}"
			}
			p := testbed.NewProxy(t, route(endpoints(serve(1, "gzip", zipped.Bytes()), serve(1, "br", []byte("?")), serve(1, "gzip", []byte("no gzip"))), "frame", keys))
			c := testbed.DialH2(t, p.Addr)
			s := c.OpenEnd(t, testbed.NewFields(":method", "POST", ":scheme", "http", ":path", "/a.B/C", "content-type", "application/grpc", "te", "trailers", "grpc-accept-encoding", "br, gzip,identity"))
			out := s.Outcome()
			require.Equal(t, "0", out.Trailers.Get("grpc-status"), "%v", out)
			require.Empty(t, out.Headers.Get("grpc-encoding"))
			var all []element
			sent, err := testbed.Messages(out.Body)
			require.NoError(t, err)
			for _, m := range sent {
				require.Zero(t, m.Flag)
				if unary {
					all = append(all, elements(t, kinds[0], [][]byte{m.Payload})...)
				} else {
					all = append(all, elementOf(t, m.Payload))
				}
			}
			slices.SortFunc(all, func(a, b element) int { return strings.Compare(a.node, b.node) })
			require.Len(t, all, 3)
			if unary {
				require.Equal(t, strings.Repeat("x", 1000), all[0].text)
			} else {
				require.Equal(t, string(field(1, bytes.Repeat([]byte("x"), 1000))), all[0].text)
			}
			require.Contains(t, all[1].err, `grpc-encoding "br" is not known`)
			require.Contains(t, all[2].err, "cannot be decompressed")
			for range 3 {
				require.Equal(t, "gzip,identity", testbed.Await(t, accepted, "a request"))
			}
		})
	}
}
