package mirrors

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/test/testbed"
)

// answering starts a backend that reads the request and then answers with a text, after a wait, or ends with a code.
func answering(t testing.TB, text string, wait time.Duration, code codes.Code) *receiver {
	r := &receiver{calls: make(chan received, 100)}
	r.addr = testbed.NewRaw(t, func(s grpcStream) error {
		var got received
		got.md, _ = metadata.FromIncomingContext(s.Context())
		for {
			m, err := testbed.Recv(s)
			if err != nil {
				break
			}
			got.messages = append(got.messages, string(m))
		}
		r.calls <- got
		select {
		case <-time.After(wait):
		case <-s.Context().Done():
			return s.Context().Err()
		}
		if code != codes.OK {
			s.SetTrailer(metadata.Pairs("x-who", text))
			return status.Error(code, text)
		}
		_ = s.SetHeader(metadata.Pairs("x-who", text))
		return testbed.Send(s, []byte(text))
	})
	return r
}

const forever = time.Hour

// responders is a list of mirrors that answer messages of type 2.
func responders(addrs ...string) string {
	text := "mirrors:\n"
	for i, addr := range addrs {
		text += fmt.Sprintf("- name: m%d\n  backend: {endpoints: [{address: %q}]}\n  timeout: 300ms\n  select: {types: [{field: \"1\", equals: 2, respond: true}, {field: \"1\", equals: 3}]}\n", i, addr)
	}
	return text
}

const withoutTwo = "select: {contains: false, types: [{field: \"1\", equals: 2}]}\n"

func TestRespond_OneMirrorAnswersItsTypes(t *testing.T) {
	for _, mode := range []string{"frame", "struct"} {
		for _, left := range []string{"", withoutTwo} {
			t.Run(fmt.Sprintf("%s/backend gets all: %t", mode, left == ""), func(t *testing.T) {
				t.Parallel()
				primary, mirror := answering(t, "primary", 0, codes.OK), answering(t, "mirror", 0, codes.OK)
				p := testbed.NewProxy(t, route(primary.addr, mode, responders(mirror.addr)+left))
				cc := testbed.DialGRPC(t, p.Addr)
				one, two, three := typed(1, "a"), typed(2, "b"), typed(3, "c")

				answer, err := makeCall(within(t), t, cc, one)
				require.NoError(t, err)
				require.Equal(t, []string{"primary"}, answer)
				require.Equal(t, []string{one}, primary.await(t).messages)

				answer, err = makeCall(within(t), t, cc, three) // which the mirror hears, and does not answer
				require.NoError(t, err)
				require.Equal(t, []string{"primary"}, answer)
				require.Equal(t, []string{three}, primary.await(t).messages)
				require.Equal(t, []string{three}, mirror.await(t).messages)

				answer, err = makeCall(within(t), t, cc, two, one, three)
				require.NoError(t, err)
				require.Equal(t, []string{"mirror"}, answer)
				got := mirror.await(t)
				require.Equal(t, []string{two, three}, got.messages)
				require.Equal(t, []string{"m0"}, got.md["framegate-mirror"])
				got = primary.await(t)
				if left == "" {
					require.Equal(t, []string{two, one, three}, got.messages)
				} else {
					require.Equal(t, []string{one, three}, got.messages)
				}
				require.Empty(t, got.md["framegate-mirror"])

				answer, err = makeCall(within(t), t, cc, one, two) // the first message decides
				require.NoError(t, err)
				require.Equal(t, []string{"primary"}, answer)
				require.Equal(t, []string{two}, mirror.await(t).messages)
			})
		}
	}
}

// Whatever happens to those that may answer, the client never gets an OK that nobody has sent.
func TestRespond_NobodyAnswers(t *testing.T) {
	two := typed(2, "b")
	for name, c := range map[string]struct {
		mirror string
		keys   string
		want   codes.Code
		reason string
	}{
		"silent":                   {"silent", "", codes.DeadlineExceeded, "timeout"},
		"dead":                     {"dead", "", codes.Unavailable, "connect_failed"},
		"nobody is selected":       {"none", withoutTwo, codes.DeadlineExceeded, "unanswered"},
		"silent, backend left out": {"silent", withoutTwo, codes.DeadlineExceeded, "timeout"},
		"an error of its own":      {"failing", "", codes.FailedPrecondition, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			primary := answering(t, "primary", 0, codes.OK)
			mirrors := ""
			switch c.mirror {
			case "silent":
				mirrors = responders(answering(t, "", forever, codes.OK).addr)
			case "dead":
				mirrors = responders(testbed.FreeAddress(t))
			case "failing":
				mirrors = responders(answering(t, "no", 0, codes.FailedPrecondition).addr)
			}
			p := testbed.NewProxy(t, route(primary.addr, "frame", mirrors+c.keys))
			s, err := testbed.Call(within(t), testbed.DialGRPC(t, p.Addr))
			require.NoError(t, err)
			_ = testbed.Send(s, []byte(two)) // fails if the call has ended: Recv says how
			require.NoError(t, s.CloseSend())
			_, err = testbed.Recv(s)
			requireCode(t, c.want, err)
			if c.reason != "" {
				require.Equal(t, []string{c.reason}, s.Trailer()["framegate-error"])
			}
		})
	}
}

func TestRespond_TheClientsDeadlineCounts(t *testing.T) {
	t.Parallel()
	primary, silent := answering(t, "primary", 0, codes.OK), answering(t, "", forever, codes.OK)
	mirrors := fmt.Sprintf("mirrors: [{name: m, backend: {endpoints: [{address: %q}]}, timeout: 1h, select: {types: [{field: \"1\", equals: 2, respond: true}]}}]", silent.addr)
	p := testbed.NewProxy(t, route(primary.addr, "frame", mirrors))
	ctx, cancel := context.WithTimeout(within(t), 200*time.Millisecond)
	defer cancel()
	_, err := makeCall(ctx, t, testbed.DialGRPC(t, p.Addr), typed(2, "b"))
	requireCode(t, codes.DeadlineExceeded, err)
}

// Of several mirrors that may answer, the first OK wins.
func TestRespond_First(t *testing.T) {
	two := typed(2, "b")
	for name, c := range map[string]struct {
		mirrors func(t *testing.T) (addrs []string)
		want    string
		code    codes.Code
	}{
		"the faster one": {func(t *testing.T) []string {
			return []string{answering(t, "slow", forever, codes.OK).addr, answering(t, "fast", 0, codes.OK).addr}
		}, "fast", codes.OK},
		"OK behind an error": {func(t *testing.T) []string {
			return []string{answering(t, "bad", 0, codes.Internal).addr, answering(t, "good", 50*time.Millisecond, codes.OK).addr}
		}, "good", codes.OK},
		"one is dead": {func(t *testing.T) []string {
			return []string{testbed.FreeAddress(t), answering(t, "alive", 0, codes.OK).addr}
		}, "alive", codes.OK},
		"all fail": {func(t *testing.T) []string {
			return []string{answering(t, "a", 0, codes.NotFound).addr, answering(t, "b", 0, codes.Internal).addr}
		}, "", codes.Internal},
		"all are silent": {func(t *testing.T) []string {
			return []string{answering(t, "a", forever, codes.OK).addr, answering(t, "b", forever, codes.OK).addr}
		}, "", codes.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			primary := answering(t, "primary", 0, codes.OK)
			p := testbed.NewProxy(t, route(primary.addr, "frame", responders(c.mirrors(t)...)+"respond: first\n"))
			s, err := testbed.Call(within(t), testbed.DialGRPC(t, p.Addr))
			require.NoError(t, err)
			_ = testbed.Send(s, []byte(two)) // fails if the call has ended: Recv says how
			require.NoError(t, s.CloseSend())
			got, err := testbed.Recv(s)
			requireCode(t, c.code, err)
			require.Equal(t, c.want, string(got))
			if c.want != "" {
				header, err := s.Header()
				require.NoError(t, err)
				require.Equal(t, []string{c.want}, header["x-who"])
			}
			require.Equal(t, []string{two}, primary.await(t).messages)
		})
	}
}

// What the backends get of a call that a mirror answers is whole, however long its messages are, and they may take their time.
func TestRespond_TheBackendsGetAllOfIt(t *testing.T) {
	t.Parallel()
	primary, mirror := newReceiver(t), answering(t, "mirror", 0, codes.OK)
	p := testbed.NewProxy(t, route(primary.addr, "frame", strings.Replace(responders(mirror.addr), "timeout: 300ms", "timeout: 30s", 1)))
	want := []string{typed(2, strings.Repeat("x", 3<<20)), typed(2, "y"), typed(2, strings.Repeat("z", 2<<20))}
	_, err := makeCall(within(t), t, testbed.DialGRPC(t, p.Addr), want...)
	require.NoError(t, err)
	require.Equal(t, want, primary.await(t).messages)
}
