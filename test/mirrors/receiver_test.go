package mirrors

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/framegate/framegate/test/testbed"
)

// received is a call that a backend has got.
type received struct {
	md       metadata.MD
	messages []string
	err      error // what ended the call; nil for a half-close
}

// receiver is a backend that tells of each call when its request has ended, and answers each message with an echo of it.
type receiver struct {
	addr  string
	began chan struct{} // gets one when a call has its first message
	calls chan received
}

func newReceiver(t testing.TB) *receiver {
	r := &receiver{began: make(chan struct{}, 1000), calls: make(chan received, 1000)}
	r.addr = testbed.NewRaw(t, r.serve)
	return r
}

func (r *receiver) serve(s grpc.ServerStream) error {
	var got received
	got.md, _ = metadata.FromIncomingContext(s.Context())
	for {
		m, err := testbed.Recv(s)
		if err == io.EOF {
			break
		}
		if got.err = err; err != nil {
			break
		}
		if got.messages = append(got.messages, string(m)); len(got.messages) == 1 {
			r.began <- struct{}{}
		}
		if got.err = testbed.Send(s, m); got.err != nil {
			break
		}
	}
	r.calls <- got
	return nil
}

// await returns the next call.
func (r *receiver) await(t testing.TB) received {
	t.Helper()
	return testbed.Await(t, r.calls, "a call at the backend")
}

// none checks that no call has come, once another one has ended that began later.
func (r *receiver) none(t testing.TB) {
	t.Helper()
	select {
	case c := <-r.calls:
		t.Fatalf("got a call with %d messages, want none", len(c.messages))
	default:
	}
}

// route is a route to a backend, with more keys.
func route(backend, mode, keys string) string {
	return fmt.Sprintf("name: all\nmatch: [{method: \"*\"}]\nmode: %s\nbackends: [{endpoints: [{address: %q}]}]\n%s\n", mode, backend, keys)
}

// shadow is a mirror with a backend, and more of its keys.
func shadow(addr, keys string) string {
	text := fmt.Sprintf("mirrors:\n- name: shadow\n  backend: {endpoints: [{address: %q}]}\n", addr)
	for line := range strings.Lines(keys) {
		text += "  " + line
	}
	return text + "\n"
}

// make makes a call with messages, and returns those of the answer.
func makeCall(ctx context.Context, t testing.TB, cc *grpc.ClientConn, messages ...string) (answer []string, err error) {
	t.Helper()
	s, err := testbed.Call(ctx, cc)
	require.NoError(t, err)
	for _, m := range messages {
		if testbed.Send(s, []byte(m)) != nil {
			break // the call has ended: Recv says how
		}
	}
	require.NoError(t, s.CloseSend())
	for {
		m, err := testbed.Recv(s)
		if err == io.EOF {
			return answer, nil
		}
		if err != nil {
			return answer, err
		}
		answer = append(answer, string(m))
	}
}

// typed is a message whose field 1 is a number, with a text in field 2.
func typed(n uint64, text string) string {
	b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), n)
	return string(protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), text))
}

// within returns a context that ends with the test's patience.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), testbed.Patience)
	t.Cleanup(cancel)
	return ctx
}

func requireCode(t testing.TB, want codes.Code, err error) {
	t.Helper()
	require.Equal(t, want, status.Code(err), "%v", err)
}

type grpcStream = grpc.ServerStream

func contextWithCancel(t testing.TB) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(within(t))
	t.Cleanup(cancel)
	return ctx, cancel
}
