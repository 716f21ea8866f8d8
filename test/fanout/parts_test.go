package fanout

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/test/testbed"
)

// Each target has its line in the access log; that of the call says how many were asked and answered.
func TestFanout_AccessLog(t *testing.T) {
	t.Parallel()
	unary, path := kinds[0], filepath.Join(t.TempDir(), "access.log")
	good, bad := testbed.NewRaw(t, unary.serve), testbed.NewRaw(t, func(grpc.ServerStream) error { return status.Error(codes.NotFound, "no") })
	p := testbed.NewProxy(t, route(endpoints(good, bad), "frame", "methods: {unary: [\"*\"]}"), testbed.AccessLog(path))
	_, err := call(t.Context(), t, testbed.DialGRPC(t, p.Addr), unary, "n0", "n1", "nobody")
	require.NoError(t, err)
	type line struct {
		Target, Endpoint, Code string
		Asked, Answered        int
	}
	var lines []line
	testbed.Poll(t, func() error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		lines = nil
		for s := bufio.NewScanner(f); s.Scan(); {
			var one line
			if err := json.Unmarshal(s.Bytes(), &one); err != nil {
				return err
			}
			lines = append(lines, one)
		}
		if len(lines) != 3 {
			return fmt.Errorf("%d lines, want 3", len(lines))
		}
		return nil
	})
	slices.SortFunc(lines, func(a, b line) int { return strings.Compare(a.Target, b.Target) })
	require.Equal(t, []line{{Code: "OK", Asked: 3, Answered: 1}, {Target: "n0", Endpoint: good, Code: "OK"}, {Target: "n1", Endpoint: bad, Code: "NOT_FOUND"}}, lines)
}

// A retry of the route is made at the target that failed, and at no other.
func TestFanout_RetriesEachTarget(t *testing.T) {
	t.Parallel()
	unary := kinds[0]
	var flaky, steady atomic.Int32
	addrs := []string{
		testbed.NewRaw(t, func(s grpc.ServerStream) error {
			if flaky.Add(1) < 3 {
				return status.Error(codes.Unavailable, "not yet")
			}
			return unary.serve(s)
		}),
		testbed.NewRaw(t, func(s grpc.ServerStream) error {
			steady.Add(1)
			return unary.serve(s)
		}),
	}
	p := testbed.NewProxy(t, route(endpoints(addrs...), "frame", "methods: {unary: [\"*\"]}")+"retry: {attempts: 3, codes: [UNAVAILABLE], backoff: {base: 1ms}}\n")
	messages, err := call(t.Context(), t, testbed.DialGRPC(t, p.Addr), unary)
	require.NoError(t, err)
	for _, e := range elements(t, unary, messages) {
		require.Empty(t, e.err)
		require.Equal(t, "m0", e.text)
	}
	require.EqualValues(t, 3, flaky.Load())
	require.EqualValues(t, 1, steady.Load())
}

// The header that names targets is taken out, unless the route says otherwise; the call goes to one endpoint if it names none.
func TestFanout_HeaderAndDefaultTargets(t *testing.T) {
	t.Parallel()
	for _, forward := range []bool{false, true} {
		t.Run(fmt.Sprint("forward ", forward), func(t *testing.T) {
			seen := make(chan []string, 10)
			unary := kinds[0]
			h := func(s grpc.ServerStream) error {
				md, _ := metadata.FromIncomingContext(s.Context())
				seen <- md["nodes"]
				return unary.serve(s)
			}
			list := endpoints(testbed.NewRaw(t, h), testbed.NewRaw(t, h))
			doc := strings.Replace(route(list, "frame", "methods: {unary: [\"*\"]}\ndefault_targets: one"), "key: nodes", fmt.Sprintf("key: nodes, forward: %t", forward), 1)
			cc := testbed.DialGRPC(t, testbed.NewProxy(t, doc).Addr)
			messages, err := call(t.Context(), t, cc, unary, "n1")
			require.NoError(t, err)
			require.Equal(t, "n1", elements(t, unary, messages)[0].node)
			want := []string(nil)
			if forward {
				want = []string{"n1"}
			}
			require.Equal(t, want, testbed.Await(t, seen, "the request"))
			messages, err = call(t.Context(), t, cc, unary)
			require.NoError(t, err)
			require.Len(t, elements(t, unary, messages), 1)
		})
	}
}

// In struct mode the rules for requests apply once, and those for answers to the answer of each target.
func TestFanout_RulesOfStructMode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	proto := filepath.Join(dir, "list.proto")
	require.NoError(t, os.WriteFile(proto, []byte(`syntax = "proto3"; package list;
message Ask { string text = 1; }
message Element { string text = 1; }
message Reply { repeated Element elements = 1; }
service List { rpc Get(Ask) returns (Reply); }
`), 0o600))
	h := func(s grpc.ServerStream) error {
		m, err := testbed.Recv(s)
		if err != nil {
			return err
		}
		return testbed.Send(s, field(1, m))
	}
	p := testbed.NewProxy(t, fmt.Sprintf(`
name: many
match: [{method: /list.List/*}]
mode: struct
schema: {files: [%q]}
struct:
  rules:
  - {on: request, when: message.text == "no", action: reject}
  - {on: request, action: set, fields: {text: '"<" + message.text + ">"'}}
  - {on: response, when: 'true', action: redact, fields: ["elements[].text"]}
backends: [{endpoints: %s}]
fanout: {targets: {from: backend}}
`, proto, endpoints(testbed.NewRaw(t, h), testbed.NewRaw(t, h))))
	cc := testbed.DialGRPC(t, p.Addr)
	get := func(text string) ([]byte, error) {
		request := field(1, []byte(text))
		var reply []byte
		err := cc.Invoke(t.Context(), "/list.List/Get", &request, &reply)
		return reply, err
	}
	reply, err := get("yes")
	require.NoError(t, err)
	var got []string
	for _, e := range elements(t, kinds[0], [][]byte{reply}) {
		got = append(got, e.node+" "+e.text)
	}
	slices.Sort(got)
	require.Equal(t, []string{"n0 [REDACTED]", "n1 [REDACTED]"}, got)
	_, err = get("no")
	require.Equal(t, codes.PermissionDenied, status.Code(err))
}

func TestFanout_TooManyTargets(t *testing.T) {
	t.Parallel()
	p := testbed.NewProxy(t, route(endpoints("127.0.0.1:1", "127.0.0.1:2"), "frame", "max_targets: 1"))
	cc := testbed.DialGRPC(t, p.Addr)
	for _, names := range [][]string{nil, {"n0,n1"}} {
		_, err := call(t.Context(), t, cc, kinds[0], names...)
		require.Equal(t, codes.ResourceExhausted, status.Code(err))
		require.Contains(t, err.Error(), "2 targets, want at most 1 (fanout.max_targets)")
	}
}
