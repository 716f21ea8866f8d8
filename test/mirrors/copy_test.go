package mirrors

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/framegate/framegate/test/testbed"
)

// A copy has the client's metadata, the mirror's name, and the messages as the backend gets them.
func TestMirror_GetsACopyOfEveryKindOfCall(t *testing.T) {
	for _, mode := range []string{"frame", "struct"} {
		for _, messages := range [][]string{{"one"}, {"one", "two", "three"}, nil} {
			t.Run(fmt.Sprintf("%s/%d messages", mode, len(messages)), func(t *testing.T) {
				t.Parallel()
				primary, mirror := newReceiver(t), newReceiver(t)
				p := testbed.NewProxy(t, route(primary.addr, mode, shadow(mirror.addr, "")))
				ctx := metadata.AppendToOutgoingContext(within(t), "x-tenant", "gold", "x-bin", "\x00\xff")
				answer, err := makeCall(ctx, t, testbed.DialGRPC(t, p.Addr), messages...)
				require.NoError(t, err)
				require.Equal(t, messages, answer)
				for _, r := range []*receiver{primary, mirror} {
					got := r.await(t)
					require.NoError(t, got.err)
					require.Equal(t, messages, got.messages)
					require.Equal(t, []string{"gold"}, got.md["x-tenant"])
					require.Equal(t, []string{"\x00\xff"}, got.md["x-bin"])
					if r == mirror {
						require.Equal(t, []string{"shadow"}, got.md["framegate-mirror"])
					} else {
						require.Empty(t, got.md["framegate-mirror"])
					}
				}
				testbed.Poll(t, func() error {
					if st := p.Mirror("shadow"); st.Active != 0 || st.Calls != 1 || st.Messages != int64(len(messages)) || st.Codes[0] != 1 || st.State != "up" {
						return fmt.Errorf("state %+v", st)
					}
					return nil
				})
			})
		}
	}
}

// In a stream, the mirror gets a message while the client goes on.
func TestMirror_FollowsAStream(t *testing.T) {
	t.Parallel()
	mirrored := make(chan string, 10)
	primary, mirror := newReceiver(t), &receiver{calls: make(chan received, 1)}
	mirror.addr = testbed.NewRaw(t, func(s grpcStream) error {
		for {
			m, err := testbed.Recv(s)
			if err != nil {
				return nil
			}
			mirrored <- string(m)
		}
	})
	p := testbed.NewProxy(t, route(primary.addr, "frame", shadow(mirror.addr, "")))
	s, err := testbed.Call(within(t), testbed.DialGRPC(t, p.Addr))
	require.NoError(t, err)
	for i := range 5 {
		m := fmt.Sprint("message ", i)
		require.NoError(t, testbed.Send(s, []byte(m)))
		got, err := testbed.Recv(s)
		require.NoError(t, err)
		require.Equal(t, m, string(got))
		require.Equal(t, m, testbed.Await(t, mirrored, "the message at the mirror"))
	}
}

func TestMirror_GetsAShareOfTheCalls(t *testing.T) {
	t.Parallel()
	const calls = 400
	primary, mirror := newReceiver(t), newReceiver(t)
	p := testbed.NewProxy(t, route(primary.addr, "frame", shadow(mirror.addr, "percent: 25")))
	cc := testbed.DialGRPC(t, p.Addr)
	for range calls {
		_, err := makeCall(within(t), t, cc, "m")
		require.NoError(t, err)
	}
	testbed.Poll(t, func() error {
		if st := p.Mirror("shadow"); st.Active != 0 {
			return fmt.Errorf("%d copies are under way", st.Active)
		}
		return nil
	})
	require.InDelta(t, calls/4, p.Mirror("shadow").Calls, 60) // seven standard deviations
	for range calls {
		primary.await(t)
	}
}

// Calls over mirrors.max_calls get no copy.
func TestMirror_BoundsTheCopiesTogether(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	primary := newReceiver(t)
	held := testbed.NewRaw(t, func(s grpcStream) error {
		<-release
		return nil
	})
	p := testbed.NewProxy(t, route(primary.addr, "frame", shadow(held, "timeout: 1m")), testbed.MaxMirrorCalls(3))
	cc := testbed.DialGRPC(t, p.Addr)
	for range 5 {
		_, err := makeCall(within(t), t, cc, "m")
		require.NoError(t, err)
	}
	testbed.Poll(t, func() error {
		if st := p.Mirror("shadow"); st.Active != 3 || st.Dropped["max_calls"] != 2 {
			return fmt.Errorf("state %+v", st)
		}
		return nil
	})
	close(release)
}

// When the client gives up before its request is complete, the mirror's call is cancelled too.
func TestMirror_EndsWithTheClient(t *testing.T) {
	t.Parallel()
	primary, mirror := newReceiver(t), newReceiver(t)
	p := testbed.NewProxy(t, route(primary.addr, "frame", shadow(mirror.addr, "")))
	ctx, cancel := contextWithCancel(t)
	s, err := testbed.Call(ctx, testbed.DialGRPC(t, p.Addr))
	require.NoError(t, err)
	require.NoError(t, testbed.Send(s, []byte("m")))
	_, err = testbed.Recv(s)
	require.NoError(t, err)
	testbed.Await(t, mirror.began, "the call at the mirror")
	cancel()
	got := mirror.await(t)
	requireCode(t, codes.Canceled, got.err)
}
