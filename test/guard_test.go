package test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/test/leak"
	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/testbed"
)

// attack is what a hostile client writes after the preface, over and over.
type attack struct {
	name  string
	begin func(fr *http2.Framer)
	again func(fr *http2.Framer, round uint32)
	want  http2.ErrCode // of the GOAWAY
}

// pieces is how many times again is written at once.
const pieces = 500

// attacks are floods and frames that Kitex's transport takes from any peer, without a bound.
func attacks() []attack {
	block := testbed.HeaderBlock(testbed.RequestFields())
	open := func(fr *http2.Framer, id uint32, end bool) {
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: end, BlockFragment: block})
	}
	calm := http2.ErrCodeEnhanceYourCalm
	return []attack{
		{name: "unasked PING ACK", again: func(fr *http2.Framer, _ uint32) {
			_ = fr.WritePing(true, [8]byte{1, 6, 1, 8, 0, 3, 3, 9})
		}, want: map[bool]http2.ErrCode{true: http2.ErrCodeProtocol, false: calm}[onKitex()]},
		{name: "CONTINUATION without end", begin: func(fr *http2.Framer) {
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x83}})
		}, again: func(fr *http2.Framer, _ uint32) {
			_ = fr.WriteContinuation(1, false, []byte("\x00\x01x\x7f\x80\x08"+string(make([]byte, 1151)))) // x: 1151 bytes
		}, want: calm},
		{name: "empty CONTINUATION", begin: func(fr *http2.Framer) {
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x83}})
		}, again: func(fr *http2.Framer, _ uint32) { _ = fr.WriteContinuation(1, false, nil) }, want: calm},
		{name: "WINDOW_UPDATE of the connection", again: func(fr *http2.Framer, _ uint32) { _ = fr.WriteWindowUpdate(0, 1) }, want: calm},
		{name: "WINDOW_UPDATE of a stream", begin: func(fr *http2.Framer) { open(fr, 1, false) }, again: func(fr *http2.Framer, _ uint32) {
			_ = fr.WriteWindowUpdate(1, 1)
		}, want: calm},
		{name: "window overflow", again: func(fr *http2.Framer, _ uint32) { _ = fr.WriteWindowUpdate(0, 1<<31-1) }, want: http2.ErrCodeFlowControl},
		{name: "SETTINGS", again: func(fr *http2.Framer, _ uint32) {
			_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
		}, want: calm},
		{name: "PRIORITY", again: func(fr *http2.Framer, r uint32) { _ = fr.WritePriority(2*r+1, http2.PriorityParam{}) }, want: calm},
		{name: "empty DATA", begin: func(fr *http2.Framer) { open(fr, 1, false) }, again: func(fr *http2.Framer, _ uint32) {
			_ = fr.WriteData(1, false, nil)
		}, want: calm},
		{name: "RST_STREAM of nothing", begin: func(fr *http2.Framer) { open(fr, 1, false) }, again: func(fr *http2.Framer, _ uint32) {
			_ = fr.WriteRSTStream(1, http2.ErrCodeCancel)
		}, want: calm},
		{name: "frames of no known type", again: func(fr *http2.Framer, _ uint32) { _ = fr.WriteRawFrame(0xbe, 0, 0, nil) }, want: calm},
		{name: "rapid reset", again: func(fr *http2.Framer, r uint32) {
			open(fr, 2*r+1, true)
			_ = fr.WriteRSTStream(2*r+1, http2.ErrCodeCancel)
		}, want: calm},
	}
}

// run attacks until the connection ends, for at most as many frames as no server should take. Each write has its own time:
// how long they take together depends on the machine. It returns what framegate said at the end.
func (a attack) run(addr string, reads bool) (said *http2.GoAwayFrame, err error) {
	const rounds = 2_000_000 / pieces
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	var last atomic.Pointer[http2.GoAwayFrame]
	var reading sync.WaitGroup
	if reads {
		reading.Go(func() {
			for fr := http2.NewFramer(io.Discard, nc); ; {
				f, err := fr.ReadFrame()
				if err != nil {
					return
				}
				if g, ok := f.(*http2.GoAwayFrame); ok {
					last.Store(&http2.GoAwayFrame{LastStreamID: g.LastStreamID, ErrCode: g.ErrCode})
				}
			}
		})
	}
	var b bytes.Buffer
	b.WriteString(http2.ClientPreface)
	fr := http2.NewFramer(&b, nil)
	fr.AllowIllegalWrites = true
	_ = fr.WriteSettings()
	if a.begin != nil {
		a.begin(fr)
	}
	for round := range uint32(rounds) {
		for i := range uint32(pieces) {
			a.again(fr, round*pieces+i)
		}
		_ = nc.SetWriteDeadline(time.Now().Add(testbed.Patience))
		if _, err = nc.Write(b.Bytes()); err != nil {
			break
		}
		b.Reset()
	}
	if err == nil {
		return nil, errors.New("it was let do it all")
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, errors.New("it was neither read nor closed")
	}
	_ = nc.SetReadDeadline(time.Now().Add(testbed.Patience))
	reading.Wait()
	return last.Load(), nil
}

// Each attack ends with the attacker's connection, leaves nothing behind, and another client does not notice it.
func TestGuard_AttackersAreSentAwayAndNothingElseSuffers(t *testing.T) {
	for _, a := range attacks() {
		attackers := race.Choose(10, 4)
		if a.name == "rapid reset" {
			attackers = 2 // each call costs as much as any until it is reset, and all ends of them run here
		}
		t.Run(a.name, func(t *testing.T) {
			proxy := testbed.NewProxy(t, testbed.RouteTo(testbed.NewRaw(t, echoAll)), oneUpstream, fewStreams)
			stream := call(t, testbed.DialGRPC(t, proxy.Addr))
			require.NoError(t, exchange(stream))
			_, _ = a.run(proxy.Addr, true) // what is made once
			testbed.Poll(t, func() error { return noUpstreamBut(proxy, 1) })
			before := taken(t)
			var attack sync.WaitGroup
			var said atomic.Int64
			for range attackers {
				attack.Go(func() {
					goAway, err := a.run(proxy.Addr, true)
					if err != nil {
						t.Errorf("the attack: %v", err)
					}
					if goAway != nil && goAway.ErrCode == a.want {
						said.Add(1)
					}
				})
			}
			over := make(chan struct{})
			go func() { attack.Wait(); close(over) }()
			exchanges := exchangeUntil(t, stream, over)
			t.Logf("%d exchanges of another client meanwhile, %d of %d attackers heard why", exchanges, said.Load(), attackers)
			require.NotZero(t, said.Load(), "attackers that were told %v", a.want)
			testbed.Poll(t, func() error { return before.compare(t) })
			require.NoError(t, exchange(stream))
		})
	}
}

// The same from clients that read nothing of what they are sent.
func TestGuard_AttackersThatReadNothingAreCutOff(t *testing.T) {
	const attackers = 2
	for _, a := range append(attacks(), attack{name: "PING", again: func(fr *http2.Framer, _ uint32) { _ = fr.WritePing(false, [8]byte{1}) }}) {
		t.Run(a.name, func(t *testing.T) {
			proxy := testbed.NewProxy(t, testbed.RouteTo(testbed.NewRaw(t, echoAll)), oneUpstream, fewStreams)
			stream := call(t, testbed.DialGRPC(t, proxy.Addr))
			require.NoError(t, exchange(stream))
			before := taken(t)
			var attack sync.WaitGroup
			for range attackers {
				attack.Go(func() {
					if _, err := a.run(proxy.Addr, false); err != nil {
						t.Errorf("the attack: %v", err)
					}
				})
			}
			over := make(chan struct{})
			go func() { attack.Wait(); close(over) }()
			exchangeUntil(t, stream, over)
			testbed.Poll(t, func() error { return before.compare(t) })
		})
	}
}

// fewStreams bounds the streams of a client so that it earns few resets a second: how fast it can make them depends on the
// machine, and what is slower than it may be is no attack.
func fewStreams(c *conf.Config) { c.Listeners[0].MaxConcurrentStreams = 100 }

// oneUpstream keeps the connections to the endpoint from becoming more, which stay.
func oneUpstream(c *conf.Config) {
	c.Upstream.Connections.Max, c.Upstream.StreamsPerConnection = 1, 1<<16
}

func noUpstreamBut(proxy *testbed.Proxy, want int) error {
	if n := proxy.UpstreamStreams(); n != want {
		return fmt.Errorf("%d streams to the upstream, want %d", n, want)
	}
	return nil
}

// exchangeUntil exchanges messages until over is closed, and wants each to take no long time.
func exchangeUntil(t *testing.T, stream grpc.ClientStream, over <-chan struct{}) (times int) {
	t.Helper()
	limit := race.Choose(5*time.Second, testbed.Patience) // all share two cores
	for ; ; times++ {
		select {
		case <-over:
			return times
		default:
		}
		begin := time.Now()
		require.NoError(t, exchange(stream))
		require.Less(t, time.Since(begin), limit)
	}
}

// usage is what a process holds.
type usage struct {
	goroutines, files int
	heap              uint64
}

func taken(t *testing.T) usage {
	t.Helper()
	leak.Settle(t)
	runtime.GC()
	return usage{runtime.NumGoroutine(), len(openFiles(t)), heapBytes()}
}

// compare says what is more than it was. The heap may be a little larger.
func (u usage) compare(t *testing.T) error {
	now := taken(t)
	switch {
	case now.goroutines > u.goroutines:
		return fmt.Errorf("%d goroutines, %d before", now.goroutines, u.goroutines)
	case now.files > u.files:
		return fmt.Errorf("%d open files, %d before", now.files, u.files)
	case int64(now.heap)-int64(u.heap) > 4<<20:
		return fmt.Errorf("%d KiB of heap, %d before", now.heap>>10, u.heap>>10)
	}
	return nil
}
