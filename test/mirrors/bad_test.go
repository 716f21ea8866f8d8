package mirrors

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/test/testbed"
)

// badMirrors are mirrors that do not do what a backend should.
var badMirrors = map[string]func(t testing.TB) (addr string){
	"dead":    func(t testing.TB) string { return testbed.FreeAddress(t) },
	"stalled": testbed.NewStalled,
	"silent": func(t testing.TB) string {
		return testbed.NewRaw(t, func(s grpcStream) error { <-s.Context().Done(); return nil })
	},
	"resetting": func(t testing.TB) string {
		return testbed.NewRaw(t, func(grpcStream) error { return status.Error(codes.Unavailable, "no") })
	},
	"flooding": func(t testing.TB) string {
		big := make([]byte, 1<<20)
		return testbed.NewRaw(t, func(s grpcStream) error {
			for {
				if err := testbed.Send(s, big); err != nil {
					return err
				}
			}
		})
	},
	"slow": func(t testing.TB) string {
		return testbed.NewRaw(t, func(s grpcStream) error {
			for {
				if _, err := testbed.Recv(s); err != nil {
					return nil
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	},
}

// Whatever a mirror does, the client's calls succeed, are not slower, and hold no more memory than the queues.
func TestMirror_BadOnesCostTheClientNothing(t *testing.T) {
	for name, start := range badMirrors {
		t.Run(name, func(t *testing.T) {
			primary := testbed.NewRaw(t, func(s grpcStream) error {
				for {
					m, err := testbed.Recv(s)
					if err != nil {
						return nil
					}
					if err := testbed.Send(s, m); err != nil {
						return err
					}
				}
			})
			p := testbed.NewProxy(t, route(primary, "frame", shadow(start(t), "queue: {messages: 10, bytes: 64KiB}\ntimeout: 500ms")))
			cc := testbed.DialGRPC(t, p.Addr)
			message := string(make([]byte, 10_000))
			var memory runtime.MemStats
			var before uint64
			var took []time.Duration
			for i := range 300 {
				if i == 50 {
					runtime.GC()
					runtime.ReadMemStats(&memory)
					before = memory.HeapAlloc
				}
				began := time.Now()
				answer, err := makeCall(within(t), t, cc, message, message, message, message)
				require.NoError(t, err)
				require.Len(t, answer, 4)
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			require.Less(t, took[len(took)*9/10], 500*time.Millisecond, "the client waits for the mirror")
			runtime.GC()
			runtime.ReadMemStats(&memory)
			require.Less(t, int64(memory.HeapAlloc)-int64(before), int64(48<<20), "memory grows")
			testbed.Poll(t, func() error {
				if st := p.Mirror("shadow"); st.Active != 0 {
					return fmt.Errorf("%d copies are under way", st.Active)
				}
				return nil
			})
			st := p.Mirror("shadow")
			ended := int64(0)
			for _, n := range st.Codes {
				ended += n
			}
			require.Equal(t, int64(300), ended+st.Dropped["unreachable"]+st.Dropped["max_calls"]+st.Dropped["stalled"], "each call is accounted for: %+v", st)
			if name == "dead" {
				require.Greater(t, st.Dropped["unreachable"], int64(100))
				require.Equal(t, "down", st.State)
			}
		})
	}
}

// A stream to a mirror that does not read goes on; what has no room is dropped and counted, or ends the copy.
func TestMirror_FullQueue(t *testing.T) {
	for _, whenFull := range []string{"drop", "end"} {
		t.Run(whenFull, func(t *testing.T) {
			t.Parallel()
			primary := newReceiver(t)
			p := testbed.NewProxy(t, route(primary.addr, "frame", shadow(testbed.NewStalled(t), "queue: {messages: 5}\ntimeout: 1m\nwhen_full: "+whenFull)))
			ctx, cancel := context.WithCancel(within(t))
			defer cancel()
			s, err := testbed.Call(ctx, testbed.DialGRPC(t, p.Addr))
			require.NoError(t, err)
			message := make([]byte, 30<<10) // of which two fill the mirror's window
			for range 60 {
				require.NoError(t, testbed.Send(s, message))
				_, err := testbed.Recv(s)
				require.NoError(t, err)
			}
			testbed.Poll(t, func() error {
				st := p.Mirror("shadow")
				dropped := st.Dropped["queue_full"]
				switch {
				case whenFull == "drop" && (dropped < 10 || st.Messages+dropped != 60 || st.Active != 1):
				case whenFull == "end" && (dropped != 1 || st.Messages > 50 || st.Active != 0):
				default:
					return nil
				}
				return fmt.Errorf("state %+v", st)
			})
		})
	}
}

// A mirror that answers nothing gets no further copies until it does.
func TestMirror_StalledOneGetsNoFurtherCopies(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	primary := testbed.NewRaw(t, func(s grpcStream) error { return testbed.Send(s, []byte("x")) })
	silent := testbed.NewRaw(t, func(grpcStream) error { <-release; return nil })
	p := testbed.NewProxy(t, route(primary, "frame", shadow(silent, "timeout: 1h")))
	cc := testbed.DialGRPC(t, p.Addr)
	call := func() {
		_, err := testbed.Unary(within(t), cc, []byte("m"))
		require.NoError(t, err)
	}
	for began := time.Now(); p.Mirror("shadow").Dropped["stalled"] == 0; {
		call()
		require.Less(t, time.Since(began), testbed.Patience)
	}
	active := p.Mirror("shadow").Active
	require.GreaterOrEqual(t, active, int64(256))
	for range 100 {
		call()
	}
	require.Equal(t, active, p.Mirror("shadow").Active)
	close(release)
	testbed.Poll(t, func() error {
		if st := p.Mirror("shadow"); st.Active != 0 {
			return fmt.Errorf("%d copies are under way", st.Active)
		}
		return nil
	})
	before := p.Mirror("shadow").Calls
	call()
	testbed.Poll(t, func() error {
		if st := p.Mirror("shadow"); st.Calls != before+1 {
			return fmt.Errorf("%d copies, want %d", st.Calls, before+1)
		}
		return nil
	})
}

// A message that is longer than the queue is not copied, whatever the mirror does.
func TestMirror_LongMessage(t *testing.T) {
	t.Parallel()
	primary, mirror := newReceiver(t), newReceiver(t)
	p := testbed.NewProxy(t, route(primary.addr, "frame", shadow(mirror.addr, "queue: {bytes: 64KiB}")))
	long := string(make([]byte, 65<<10))
	answer, err := makeCall(within(t), t, testbed.DialGRPC(t, p.Addr), "short", long, "short")
	require.NoError(t, err)
	require.Equal(t, []string{"short", long, "short"}, answer)
	require.Equal(t, []string{"short", "short"}, mirror.await(t).messages)
	require.EqualValues(t, 1, p.Mirror("shadow").Dropped["too_long"])
}

// A mirror that answers when its request has ended, as methods with a stream of requests do, has not stalled before.
func TestMirror_LongRequestsAreNoStall(t *testing.T) {
	t.Parallel()
	primary, mirror := newReceiver(t), newReceiver(t)
	mirror.began = make(chan struct{}, 1000)
	silent := testbed.NewRaw(t, func(s grpcStream) error {
		for first := true; ; first = false {
			if _, err := testbed.Recv(s); err != nil {
				return nil
			}
			if first {
				mirror.began <- struct{}{}
			}
		}
	})
	p := testbed.NewProxy(t, route(primary.addr, "frame", shadow(silent, "")))
	cc := testbed.DialGRPC(t, p.Addr)
	ctx := within(t)
	for i := range 300 {
		if i == 280 {
			time.Sleep(300 * time.Millisecond)
		}
		s, err := testbed.Call(ctx, cc)
		require.NoError(t, err)
		require.NoError(t, testbed.Send(s, []byte("m")))
	}
	for range 300 {
		testbed.Await(t, mirror.began, "a copy")
	}
	require.Empty(t, p.Mirror("shadow").Dropped)
}
