package fanout

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/framegate/framegate/test/testbed"
)

// fault is a target that fails, and what its element says.
type fault struct {
	start func(t testing.TB) (addr string)
	err   string // a part of the element's error
	code  codes.Code
}

func handling(h func(s grpc.ServerStream) error) func(t testing.TB) string {
	return func(t testing.TB) string { return testbed.NewRaw(t, h) }
}

var faults = map[string]fault{
	"unreachable":   {testbed.FreeAddress, "connection refused", codes.Unavailable},
	"failing":       {handling(func(grpc.ServerStream) error { return status.Error(codes.PermissionDenied, "not you") }), "not you", codes.PermissionDenied},
	"without text":  {handling(func(grpc.ServerStream) error { return status.Error(codes.Aborted, "") }), "ABORTED", codes.Aborted},
	"unimplemented": {func(t testing.TB) string { return testbed.NewInterop(t) }, "unknown service", codes.Unimplemented},
	"slow":          {handling(func(s grpc.ServerStream) error { <-s.Context().Done(); return s.Context().Err() }), "deadline exceeded", codes.DeadlineExceeded},
	"stalled":       {testbed.NewStalled, "deadline exceeded", codes.DeadlineExceeded},
	"resetting":     {testbed.NewResetting, "reset", codes.Internal},
	"breaking off":  {testbed.NewBreaking, "", codes.Unavailable},
}

// A target that fails is an element; the others answer, and the call ends with OK.
func TestFanout_EveryFailureIsAnElement(t *testing.T) {
	for _, k := range kinds {
		for name, f := range faults {
			t.Run(k.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				good := []string{testbed.NewRaw(t, k.serve), testbed.NewRaw(t, k.serve)}
				keys := "deadline_per_target: 500ms\naggregate: {status_field: 3}"
				if !k.servers {
					keys += "\nmethods: {unary: [\"*\"]}"
				}
				p := testbed.NewProxy(t, route(fmt.Sprintf(`[{address: %q, tags: {node: a}}, {address: %q, tags: {node: bad}}, {address: %q, tags: {node: c}}]`, good[0], f.start(t), good[1]), "frame", keys))
				ctx, cancel := context.WithTimeout(t.Context(), testbed.Patience)
				defer cancel()
				messages, err := call(ctx, t, testbed.DialGRPC(t, p.Addr), k)
				require.NoError(t, err)
				got := map[string][]string{}
				failed := 0
				for _, e := range elements(t, k, messages) {
					if e.err == "" {
						got[e.node] = append(got[e.node], e.text)
						continue
					}
					failed++
					require.Equal(t, "bad", e.node)
					require.Contains(t, e.err, f.err)
					require.Equal(t, f.code, codes.Code(e.status.Code), "%v", e.status)
					require.Equal(t, e.err, orName(e.status))
				}
				require.Equal(t, 1, failed, "it is reported once")
				delete(got, "bad") // what it sent before it failed
				require.Equal(t, map[string][]string{"a": k.want(), "c": k.want()}, got)
			})
		}
	}
}

func orName(st *statuspb.Status) string {
	if st.Message == "" {
		return strings.ToUpper(codes.Code(st.Code).String())
	}
	return st.Message
}

// The call's status is OK if min_success targets answer, else the worst.
func TestFanout_StatusOfTheCall(t *testing.T) {
	unary := kinds[0]
	failing := func(c codes.Code) string {
		return testbed.NewRaw(t, func(s grpc.ServerStream) error { return withDetail(s, c) })
	}
	good, denied, missing, internal := testbed.NewRaw(t, unary.serve), failing(codes.PermissionDenied), failing(codes.NotFound), failing(codes.Internal)
	for name, c := range map[string]struct {
		targets []string
		min     int
		want    codes.Code
	}{
		"all good":          {[]string{good}, 1, codes.OK},
		"enough":            {[]string{good, denied}, 1, codes.OK},
		"not enough":        {[]string{good, denied}, 2, codes.PermissionDenied},
		"the worst of all":  {[]string{missing, internal, denied}, 1, codes.Internal},
		"more than targets": {[]string{good, internal}, 2, codes.Unavailable}, // of which one is named
	} {
		t.Run(name, func(t *testing.T) {
			var list []string
			for i, addr := range c.targets {
				list = append(list, fmt.Sprintf(`{address: %q, tags: {node: n%d}}`, addr, i))
			}
			p := testbed.NewProxy(t, route("["+strings.Join(list, ", ")+"]", "frame", fmt.Sprintf("methods: {unary: [\"*\"]}\nmin_success: %d", c.min)))
			ctx := t.Context()
			if name == "more than targets" {
				ctx = metadata.AppendToOutgoingContext(ctx, "nodes", "n0")
			}
			s, err := testbed.Call(ctx, testbed.DialGRPC(t, p.Addr))
			require.NoError(t, err)
			_ = testbed.Send(s, []byte("m")) // fails if the call has ended: Recv says how
			require.NoError(t, s.CloseSend())
			_, err = testbed.Recv(s)
			require.Equal(t, c.want, status.Code(err), "%v", err)
			if c.want != codes.OK && name != "more than targets" { // the status is a target's, unchanged
				require.Equal(t, []string{c.want.String()}, s.Trailer()["x-who"])
				require.Len(t, status.Convert(err).Details(), 1)
			}
		})
	}
}

// withDetail ends a call with a code, a detail and a trailer.
func withDetail(s grpc.ServerStream, c codes.Code) error {
	s.SetTrailer(metadata.Pairs("x-who", c.String()))
	st, err := status.New(c, "text of "+c.String()).WithDetails(wrapperspb.String("detail"))
	if err != nil {
		return err
	}
	return st.Err()
}

// A reply of another shape fails its target, not the call; so does a reply that is missing, doubled, too long or malformed.
func TestFanout_RepliesThatCannotBeJoined(t *testing.T) {
	unary := kinds[0]
	for name, c := range map[string]struct {
		replies [][]byte
		err     string
	}{
		"another field":  {[][]byte{field(2, []byte("x"))}, "another shape"},
		"a number":       {[][]byte{protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1)}, "another shape"},
		"no protobuf":    {[][]byte{[]byte("\xff\xff")}, "another shape"},
		"none":           {nil, "no message"},
		"two":            {[][]byte{field(1, nil), field(1, nil)}, "more than one message"},
		"empty":          {[][]byte{{}}, ""},
		"three elements": {[][]byte{slices.Concat(field(1, field(1, []byte("a"))), field(1, nil), field(1, field(1, []byte("c"))))}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			odd := testbed.NewRaw(t, func(s grpc.ServerStream) error {
				for {
					if _, err := testbed.Recv(s); err != nil {
						break
					}
				}
				for _, r := range c.replies {
					if err := testbed.Send(s, r); err != nil {
						return err
					}
				}
				return nil
			})
			p := testbed.NewProxy(t, route(fmt.Sprintf(`[{address: %q, tags: {node: odd}}, {address: %q, tags: {node: good}}]`, odd, testbed.NewRaw(t, unary.serve)), "frame", "methods: {unary: [\"*\"]}"))
			messages, err := call(t.Context(), t, testbed.DialGRPC(t, p.Addr), unary, "odd", "good")
			require.NoError(t, err)
			var odds, texts []string
			for _, e := range elements(t, unary, messages) {
				if e.node == "good" {
					require.Equal(t, "m0", e.text)
					continue
				}
				require.Equal(t, "odd", e.node)
				odds, texts = append(odds, e.err), append(texts, e.text)
			}
			if c.err != "" {
				require.Len(t, odds, 1)
				require.Contains(t, odds[0], c.err)
				return
			}
			for _, e := range odds {
				require.Empty(t, e)
			}
			if name == "empty" {
				require.Equal(t, []string{""}, texts)
			} else {
				require.Equal(t, []string{"a", "", "c"}, texts)
			}
		})
	}
}

// One cancel of the client cancels the calls of all targets, and its deadline reaches them.
func TestFanout_CancelAndDeadlineReachAll(t *testing.T) {
	t.Parallel()
	const targets = 5
	ended := make(chan error, targets)
	began := make(chan time.Duration, targets)
	var list []string
	for range targets {
		addr := testbed.NewRaw(t, func(s grpc.ServerStream) error {
			deadline, ok := s.Context().Deadline()
			if !ok {
				return status.Error(codes.Internal, "no deadline")
			}
			began <- time.Until(deadline)
			<-s.Context().Done()
			ended <- s.Context().Err()
			return nil
		})
		list = append(list, fmt.Sprintf(`{address: %q}`, addr))
	}
	p := testbed.NewProxy(t, route("["+strings.Join(list, ", ")+"]", "frame", "mode: aggregate"))
	cc := testbed.DialGRPC(t, p.Addr)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	s, err := testbed.Call(ctx, cc)
	require.NoError(t, err)
	require.NoError(t, testbed.Send(s, []byte("m")))
	for range targets {
		left := testbed.Await(t, began, "the call at a target")
		require.Greater(t, left, 30*time.Second)
		require.LessOrEqual(t, left, time.Minute)
	}
	cancel()
	for range targets {
		require.ErrorIs(t, testbed.Await(t, ended, "the end of a target's call"), context.Canceled)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = call(ctx, t, cc, kinds[0])
	require.Equal(t, codes.DeadlineExceeded, status.Code(err))
	for range targets {
		testbed.Await(t, ended, "the end of a target's call")
	}
}

// A client stream goes on when a target dies, which is reported once.
func TestFanout_ADeadTargetIsSkipped(t *testing.T) {
	t.Parallel()
	bidi := kinds[3]
	dying := testbed.NewRaw(t, func(s grpc.ServerStream) error {
		if _, err := testbed.Recv(s); err != nil {
			return err
		}
		return status.Error(codes.Unavailable, "dying")
	})
	p := testbed.NewProxy(t, route(fmt.Sprintf(`[{address: %q, tags: {node: dying}}, {address: %q, tags: {node: good}}]`, dying, testbed.NewRaw(t, bidi.serve)), "frame", "mode: aggregate"))
	s, err := testbed.Call(t.Context(), testbed.DialGRPC(t, p.Addr))
	require.NoError(t, err)
	reported := 0
	for i := range 10 {
		require.NoError(t, testbed.Send(s, []byte(fmt.Sprint("m", i))))
		for answered := false; !answered; {
			m, err := testbed.Recv(s)
			require.NoError(t, err)
			if e := elementOf(t, m); e.node == "dying" {
				require.Equal(t, "dying", e.err)
				reported++
			} else {
				require.Equal(t, element{text: fmt.Sprintf("m%d/0", i), node: "good"}, e)
				answered = true
			}
		}
	}
	require.NoError(t, s.CloseSend())
	for {
		m, err := testbed.Recv(s)
		if err != nil {
			require.Equal(t, "EOF", err.Error())
			break
		}
		require.Equal(t, "dying", elementOf(t, m).node)
		reported++
	}
	require.Equal(t, 1, reported)
}

// A target whose queue is full holds the others up, or is dropped.
func TestFanout_SlowTarget(t *testing.T) {
	for _, slow := range []string{"wait", "drop"} {
		t.Run(slow, func(t *testing.T) {
			t.Parallel()
			bidi := kinds[3]
			p := testbed.NewProxy(t, route(fmt.Sprintf(`[{address: %q, tags: {node: stalled}}, {address: %q, tags: {node: good}}]`, testbed.NewStalled(t), testbed.NewRaw(t, bidi.serve)), "frame", "queue: {bytes: 64KiB}\nslow_target: "+slow))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s, err := testbed.Call(ctx, testbed.DialGRPC(t, p.Addr))
			require.NoError(t, err)
			var answered, dropped int
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					m, err := testbed.Recv(s)
					if err != nil {
						return
					}
					if e := elementOf(t, m); e.node == "good" {
						answered++
					} else if strings.Contains(e.err, "too slowly") {
						dropped++
					}
				}
			}()
			message := []byte(strings.Repeat("x", 10_000))
			const messages = 400 // 4 MB: more than all windows and queues on the way
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				for range messages {
					if testbed.Send(s, message) != nil {
						return
					}
				}
				_ = s.CloseSend()
			}()
			if slow == "drop" {
				testbed.Await(t, done, "the end of the call")
				require.Equal(t, messages, answered)
				require.Equal(t, 1, dropped)
				return
			}
			select {
			case <-sent:
				t.Error("the client was not held up")
			case <-time.After(500 * time.Millisecond):
			}
			cancel()
			testbed.Await(t, done, "the end of the call")
			testbed.Await(t, sent, "the end of the request")
		})
	}
}
