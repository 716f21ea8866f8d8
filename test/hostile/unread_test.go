package hostile

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/chaos"
	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/testbed"
)

// unreadMethod is of an endpoint whose answers are not read.
const unreadMethod = "/hostile.Unread/Call"

// dialUnreading opens a connection that reads nothing, with windows that hold anything, and calls of a method on it: their requests
// are streams 1, 3 and so on.
func dialUnreading(t *testing.T, addr, method string, calls int) *net.TCPConn {
	t.Helper()
	nc := dial(t, addr)
	require.NoError(t, nc.SetReadBuffer(128<<10)) // hardly more than a segment of the loopback interface
	b := slices.Concat([]byte(http2.ClientPreface), settings(http2.SettingInitialWindowSize, maxWindow), frame(http2.FrameSettings, http2.FlagSettingsAck, 0),
		windowUpdate(0, maxWindow-65535))
	for i := range calls {
		b = append(b, request(uint32(2*i+1), to(method), true)...)
	}
	require.NoError(t, write(nc, b))
	return nc
}

// unreadAnswers sends clients 64 MiB which they do not read. What framegate keeps of it is bounded, and the endpoint waits; when the
// client is gone, the endpoint is told.
func unreadAnswers(t *testing.T, w *world, server *testbed.H2Server) {
	const total, message = 64 << 20, 64<<10 - 5
	part := testbed.Frame(make([]byte, message))
	for _, way := range ways {
		for _, calls := range []int{1, 64} {
			w.attack(t, fmt.Sprintf("64 MiB that are not read, in %d calls, %s", calls, way), func(t *testing.T) {
				nc := dialUnreading(t, w.proxy.Addr, way.of(unreadMethod), calls)
				ups := make([]*testbed.H2Stream, calls)
				var sent atomic.Int64
				var sending sync.WaitGroup
				for i := range ups {
					ups[i] = server.Accept(t)
					require.NoError(t, ups[i].TryHeaders(testbed.ResponseFields()))
					sending.Go(func() {
						for range total / len(part) / calls {
							if ups[i].TrySend(part) != nil {
								return // framegate has reset the stream, or takes nothing for long
							}
							sent.Add(int64(len(part)))
						}
					})
				}
				awaitStill(t, &sent)
				t.Logf("framegate and the sockets have taken %d KiB", sent.Load()>>10)
				require.Less(t, sent.Load(), int64(total/2), "bytes that framegate and the sockets have taken")
				wantGood(t, testbed.DialH2(t, w.proxy.Addr))
				require.NoError(t, nc.SetLinger(0))
				require.NoError(t, nc.Close())
				for _, up := range ups {
					code, _ := up.AwaitReset()
					require.Equal(t, http2.ErrCodeCancel, code)
				}
				sending.Wait()
			})
		}
	}
}

// readSlowly reads answers through a small socket, which is full again and again.
func readSlowly(t *testing.T, w *world, server *testbed.H2Server) {
	const total = 16 << 20
	part := testbed.Frame(make([]byte, 64<<10-5))
	for _, way := range ways {
		w.attack(t, "16 MiB that are read in small pieces, "+string(way), func(t *testing.T) {
			nc := dialUnreading(t, w.proxy.Addr, way.of(unreadMethod), 1)
			up := server.Accept(t)
			var sending sync.WaitGroup
			sending.Go(func() {
				_ = up.TryHeaders(testbed.ResponseFields())
				for range total / len(part) {
					if up.TrySend(part) != nil {
						return
					}
				}
			})
			require.NoError(t, nc.SetReadDeadline(time.Now().Add(2*testbed.Patience)))
			n, err := io.CopyN(io.Discard, nc, total)
			require.NoError(t, err, "after %d bytes", n)
			sending.Wait()
			require.NoError(t, nc.Close())
		})
	}
}

// awaitStill waits until a count has not changed for a while.
func awaitStill(t *testing.T, n *atomic.Int64) {
	t.Helper()
	const still = 100 * time.Millisecond
	last, since := int64(-1), time.Now()
	testbed.Poll(t, func() error {
		if now := n.Load(); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) < still {
			return fmt.Errorf("it is %d, and changes", last)
		}
		return nil
	})
}

// unreadHeaders answers calls with large headers, which their client does not read: windows do not hold them up. The client is given
// up, though it is silent.
func unreadHeaders(t *testing.T, w *world, server *testbed.H2Server) {
	const calls = 100
	large := block(testbed.ResponseFields("x-large", strings.Repeat("~", 60<<10)))
	for _, way := range ways {
		w.attack(t, "headers that are not read, "+string(way), func(t *testing.T) {
			dialUnreading(t, w.proxy.Addr, way.of(unreadMethod), calls)
			ups := make([]*testbed.H2Stream, calls)
			for i := range ups {
				ups[i] = server.Accept(t)
			}
			for _, up := range ups[1:] {
				if up.Conn().WriteBytes(split(up.ID, false, large)) != nil {
					break
				}
			}
			code, _ := ups[0].AwaitReset() // the call that was not answered
			require.Equal(t, http2.ErrCodeCancel, code)
		})
	}
}

// dribble lets an answer out byte by byte (CVE-2019-9511), and reads nothing of it.
func dribble(t *testing.T, w *world) {
	w.attack(t, "an answer byte by byte", func(t *testing.T) {
		nc := dial(t, w.proxy.Addr)
		require.NoError(t, nc.SetReadBuffer(4<<10))
		fields := to(chaos.ServerMethod, chaos.CountKey, "1000")
		message := testbed.Frame(append([]byte{10, 0x80, 8}, make([]byte, 1024)...)) // a BytesValue of 1 KiB
		require.NoError(t, write(nc, slices.Concat([]byte(http2.ClientPreface), settings(http2.SettingInitialWindowSize, 0), frame(http2.FrameSettings, http2.FlagSettingsAck, 0),
			request(1, fields, false), frame(http2.FrameData, endStream, 1, message...))))
		_ = write(nc, slices.Repeat(windowUpdate(1, 1), 20_000))
		wantGood(t, testbed.DialH2(t, w.proxy.Addr))
	})
}

// deafMethod is of an endpoint that reads nothing.
const deafMethod = "/hostile.Deaf/Call"

// deaf starts an endpoint that greets framegate with windows that hold anything, and then reads nothing.
func deaf(t *testing.T) route {
	t.Helper()
	greeting := slices.Concat(settings(http2.SettingInitialWindowSize, maxWindow), windowUpdate(0, maxWindow-65535), frame(http2.FrameSettings, http2.FlagSettingsAck, 0))
	return unsettled(t, deafMethod, greeting, false)
}

// deafEndpoint sends an endpoint that reads nothing more than there is room for: requests of 64 MiB, and then many headers.
func deafEndpoint(t *testing.T, w *world) {
	for _, way := range ways {
		w.attack(t, "64 MiB to an endpoint that does not read, "+string(way), func(t *testing.T) {
			c := testbed.DialH2(t, w.proxy.Addr)
			var sending sync.WaitGroup
			streams := make([]*testbed.H2Stream, 64)
			for i := range streams {
				streams[i] = c.Open(t, to(way.of(deafMethod), "grpc-timeout", "1S"))
				sending.Go(func() { _, _ = io.Copy(streamWriter{streams[i]}, io.LimitReader(zeros{}, 1<<20)) })
			}
			for _, s := range streams {
				wantLocal(t, s.Outcome(), 4, "timeout")
			}
			sending.Wait()
			wantGood(t, c)
		})
		w.attack(t, "headers to an endpoint that does not read, "+string(way), func(t *testing.T) {
			c := testbed.DialH2(t, w.proxy.Addr)
			streams := make([]*testbed.H2Stream, 100)
			large := block(to(way.of(deafMethod), "grpc-timeout", "1S", "x-large", strings.Repeat("~", 60<<10)))
			for i := range streams {
				streams[i] = c.NewStream(t)
				require.NoError(t, c.WriteBytes(split(streams[i].ID, true, large)))
			}
			begun, worked := time.Now(), ownTime(t)
			for _, s := range streams {
				o := s.Outcome()
				require.Contains(t, []int{4, 14}, o.Code(), "%s", o)
				require.NotEmpty(t, o.Reason(), "%s", o)
			}
			share := (ownTime(t) - worked).Seconds() / time.Since(begun).Seconds()
			require.LessOrEqual(t, share, maxWaiting, "of a processor, while calls wait")
			wantGood(t, c)
		})
	}
}

// maxWaiting is how much of a processor the process may use while calls wait: about what the honest calls take.
var maxWaiting = race.Choose(0.7, 2)

// zeros reads as a message that does not end soon.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// streamWriter sends what is written as DATA.
type streamWriter struct{ s *testbed.H2Stream }

func (w streamWriter) Write(p []byte) (int, error) { return len(p), w.s.TrySend(p) }

// unreadAttacks makes calls whose peers do not read.
func unreadAttacks(t *testing.T, w *world, server *testbed.H2Server) {
	unreadAnswers(t, w, server)
	readSlowly(t, w, server)
	unreadHeaders(t, w, server)
	dribble(t, w)
	deafEndpoint(t, w)
}
