package h2conn

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/pool/transport"
)

func TestConn_MaxStreamsFollowsTheSettings(t *testing.T) {
	nc, p := newPeer(t, nil)
	changed := make(chan struct{}, 100)
	c := New(nc, 64<<10, func() { changed <- struct{}{} })
	transportOn(t, c)
	waitSettings(t, c)
	require.EqualValues(t, math.MaxUint32, c.MaxStreams(), "none is set")
	hearsOfIt := func() {
		t.Helper()
		eventually(t, "to hear of the change", func() bool { return len(changed) == 1 })
		<-changed
	}
	hearsOfIt()
	for _, v := range []uint32{5, 0, 1, 100} {
		p.settings(maxStreams(v))
		eventually(t, "MAX_CONCURRENT_STREAMS", func() bool { return c.MaxStreams() == v })
		hearsOfIt()
	}
	acks := p.acks.Load()
	p.settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 70000})
	eventually(t, "an answer to SETTINGS", func() bool { return p.acks.Load() > acks })
	require.EqualValues(t, 100, c.MaxStreams(), "SETTINGS without it change nothing")
	require.Empty(t, changed)
}

func TestConn_CloseTwice(t *testing.T) {
	nc, _ := newPeer(t, nil)
	c := New(nc, 64<<10, nil)
	require.NoError(t, c.Close())
	require.ErrorIs(t, c.Close(), net.ErrClosed)
}

// A peer that has stopped reading leaves a ping in its write; Close must end that.
func TestConn_CloseEndsABlockedPing(t *testing.T) {
	client, server := net.Pipe() // takes nothing until it is read
	defer server.Close()
	c := New(client, 64<<10, nil)
	done, pinged := make(chan struct{}), make(chan error, 1)
	go func() { pinged <- c.ping(done, time.Minute) }()
	eventually(t, "the ping in its write", func() bool {
		if c.wmu.TryLock() {
			c.wmu.Unlock()
			return false
		}
		return true
	})
	closed := make(chan struct{})
	go func() {
		_ = c.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatal("Close hangs behind the ping")
	}
	close(done)
	require.NoError(t, <-pinged)
}

func TestConn_Over(t *testing.T) {
	over := func(c *Conn) bool {
		select {
		case <-c.Over():
			return true
		default:
			return false
		}
	}
	t.Run("after Close", func(t *testing.T) {
		nc, _ := newPeer(t, nil)
		c := New(nc, 64<<10, nil)
		require.False(t, over(c))
		_ = c.Close()
		_ = c.Close()
		require.True(t, over(c))
	})
	t.Run("after a failed write", func(t *testing.T) {
		nc, _ := newPeer(t, nil)
		c := New(nc, 64<<10, nil)
		_, err := c.Write([]byte(http2.ClientPreface))
		require.NoError(t, err)
		require.False(t, over(c))
		require.NoError(t, nc.SetWriteDeadline(time.Unix(1, 0)))
		_, err = c.Write(frame(http2.FramePing, 0, 0, make([]byte, 8)))
		require.Error(t, err)
		require.True(t, over(c))
		_ = c.Close()
	})
}

func TestConn_EndsInHeaderBlock(t *testing.T) {
	const end = http2.FlagHeadersEndHeaders
	headers := frame(http2.FrameHeaders, 0, 1, make([]byte, 20))
	whole := frame(http2.FrameHeaders, end, 1, make([]byte, 20))
	continuation := frame(http2.FrameContinuation, 0, 1, nil)
	data := frame(http2.FrameData, 0, 1, make([]byte, 100))
	last := frame(http2.FrameContinuation, end, 1, make([]byte, 5))
	for name, tc := range map[string]struct {
		frames [][]byte
		want   bool
	}{
		"nothing":                    {nil, false},
		"the preface":                {[][]byte{[]byte(http2.ClientPreface)}, false},
		"headers, whole":             {[][]byte{data, whole}, false},
		"headers, begun":             {[][]byte{data, headers}, true},
		"headers, going on":          {[][]byte{headers, continuation}, true},
		"headers, going on, alone":   {[][]byte{continuation}, true},
		"headers, ended":             {[][]byte{headers, continuation, last}, false},
		"headers, ended, then data":  {[][]byte{headers, last, data}, false},
		"data that looks like begun": {[][]byte{frame(http2.FrameData, 0, 1, headers)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := endsInHeaderBlock(bytes.Join(tc.frames, nil)); got != tc.want {
				t.Errorf("got %t, want %t", got, tc.want)
			}
		})
	}
}

// opener opens streams as package pool does.
type opener struct {
	c        *Conn
	tr       grpc.ClientTransport
	inflight atomic.Int32
}

var errNoRoom = errors.New("no room")

// open opens a stream if there is room, and reports how long NewStream took.
func (o *opener) open(ctx context.Context) (*grpc.Stream, time.Duration, error) {
	o.c.Reserve()
	defer o.c.Unreserve()
	if n := o.inflight.Add(1) - 1; uint32(n) >= o.c.MaxStreams() {
		o.inflight.Add(-1)
		return nil, 0, errNoRoom
	}
	start := time.Now()
	s, err := o.tr.NewStream(ctx, &grpc.CallHdr{Host: "test", Method: "/test.Test/Call"})
	if err != nil {
		o.inflight.Add(-1)
	}
	return s, time.Since(start), err
}

func (o *opener) close(s *grpc.Stream) {
	o.tr.CloseStream(s, errors.New("done"))
	o.inflight.Add(-1)
}

// refusing makes a peer that resets each stream at once, and at first allows so many.
func refusing(max uint32) func(*peer) {
	return func(p *peer) {
		p.first = []http2.Setting{maxStreams(max)}
		p.onFrame = func(f http2.Frame) {
			if h, ok := f.(*http2.HeadersFrame); ok {
				stream := h.StreamID
				p.write(func(fr *http2.Framer) error { return fr.WriteRSTStream(stream, http2.ErrCodeRefusedStream) })
			}
		}
	}
}

// storm opens and closes streams in many goroutines while change changes the peer's settings. NewStream must never wait.
func storm(t *testing.T, c *Conn, tr grpc.ClientTransport, change func(stop <-chan struct{})) {
	t.Helper()
	o := &opener{c: c, tr: tr}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stop := make(chan struct{})
	var opened, longest atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				s, took, err := o.open(ctx)
				if took > time.Duration(longest.Load()) {
					longest.Store(int64(took))
				}
				if err == errNoRoom {
					time.Sleep(10 * time.Microsecond)
					continue
				}
				if err != nil {
					t.Errorf("NewStream failed after %s: %v", took, err)
					return
				}
				opened.Add(1)
				<-s.Done()
				o.close(s)
			}
		})
	}
	change(stop)
	close(stop)
	wg.Wait()
	if d := time.Duration(longest.Load()); d > 2*time.Second {
		t.Errorf("a NewStream took %s", d)
	}
	if opened.Load() < 100 {
		t.Errorf("only %d streams were opened", opened.Load())
	}
	if !c.opening.TryLock() {
		t.Error("a reservation is left")
	}
}

func TestReserve_NewStreamNeverWaitsWhenTheLimitFalls(t *testing.T) {
	nc, p := newPeer(t, refusing(100))
	c := New(nc, 64<<10, nil)
	tr, _ := transportOn(t, c)
	waitSettings(t, c)
	storm(t, c, tr, func(<-chan struct{}) {
		rnd := rand.New(rand.NewPCG(3, 3))
		for range 200 {
			acks := p.acks.Load()
			p.settings(maxStreams([]uint32{0, 1, 2, 8, 100}[rnd.IntN(5)]))
			eventually(t, "an answer to SETTINGS", func() bool { return p.acks.Load() > acks })
		}
	})
}

// A limit that rises and falls in one segment: who believes the high one before the transport has heard of it waits in
// NewStream for the transport's reader, which would wait for the opening to end.
func TestReserve_NewStreamNeverWaitsWhenTheLimitRisesAndFallsAtOnce(t *testing.T) {
	nc, p := newPeer(t, refusing(1))
	c := New(nc, 64<<10, nil)
	tr, _ := transportOn(t, c)
	waitSettings(t, c)
	rise := frame(http2.FrameSettings, 0, 0, settingsPayload(maxStreams(1000)))
	fall := frame(http2.FrameSettings, 0, 0, settingsPayload(maxStreams(1)))
	between := frame(http2.FramePing, http2.FlagPingAck, 0, make([]byte, 8)) // takes time to read, and no answer
	segment := append(append(rise, []byte(strings.Repeat(string(between), 3000))...), fall...)
	storm(t, c, tr, func(<-chan struct{}) {
		for range 100 {
			acks := p.acks.Load()
			p.writeRaw(segment)
			eventually(t, "the answers to both SETTINGS", func() bool { return p.acks.Load() >= acks+2 })
		}
	})
}

// Kitex takes a SETTINGS ACK for the peer's first frame; it then allows 100 streams and not as many as one likes.
func TestReserve_SettingsAckFirst(t *testing.T) {
	nc, p := newPeer(t, func(p *peer) { p.mute = true })
	c := New(nc, 64<<10, nil)
	tr, _ := transportOn(t, c)
	p.writeRaw(append(frame(http2.FrameSettings, http2.FlagSettingsAck, 0, nil), frame(http2.FrameSettings, 0, 0, nil)...))
	waitSettings(t, c)
	o := &opener{c: c, tr: tr}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for range 150 {
		if _, took, err := o.open(ctx); err != nil && err != errNoRoom {
			t.Fatalf("NewStream failed after %s: %v", took, err)
		}
	}
	require.EqualValues(t, 100, o.inflight.Load())
}

// Headers of more than 16 KiB take several frames between which no other may come (RFC 9113 §6.10), and Kitex may flush
// between them.
func TestConn_PingNeverPartsAHeaderBlockOrAFrame(t *testing.T) {
	nc, p := newPeer(t, nil)
	c := New(nc, 64<<10, nil)
	tr, lost := transportOn(t, c)
	waitSettings(t, c)

	rnd := rand.New(rand.NewPCG(4, 4))
	const letters = "\\^~{}|<>;!$#" // that HPACK makes no shorter
	value := make([]byte, 3000)
	for i := range value {
		value[i] = letters[rnd.IntN(len(letters))]
	}
	big := metadata.Pairs()
	for i := range 20 {
		big.Append("x-big", string(value[i:])) // 20 different values
	}
	stop := make(chan struct{})
	var writers, pingers sync.WaitGroup
	for range 6 {
		writers.Go(func() {
			ctx := metadata.NewOutgoingContext(t.Context(), big)
			for range 15 {
				s, err := tr.NewStream(ctx, &grpc.CallHdr{Host: "test", Method: "/test.Test/Call"})
				if err != nil {
					t.Errorf("NewStream: %v", err)
					return
				}
				for range 10 {
					if err := tr.Write(s, nil, make([]byte, 20000), &grpc.Options{}); err != nil {
						t.Errorf("Write: %v", err)
						return
					}
				}
				tr.CloseStream(s, errors.New("done"))
			}
		})
	}
	pingers.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-lost:
				return
			default:
				_ = c.ping(lost, 2*time.Millisecond) // late answers are none of this test's business
			}
		}
	})
	writers.Wait()
	close(stop)
	pingers.Wait()
	select {
	case <-p.closed:
		t.Fatalf("the server could not read on: %v (%v)", p.err, p.framer.ErrorDetail())
	default:
	}
	require.Greater(t, p.pings.Load(), int64(10))
	eventually(t, "every stream's headers", func() bool { return len(p.headers) == 90 })
}

func TestConn_ResetCode(t *testing.T) {
	nc, p := newPeer(t, nil)
	c := New(nc, 64<<10, nil)
	tr, _ := transportOn(t, c)
	waitSettings(t, c)

	t.Run("each of a burst", func(t *testing.T) { // a server that is stopped resets all it has
		const n = 500
		streams := make([]*grpc.Stream, n)
		for i := range streams {
			streams[i] = newStream(t, tr)
		}
		ids := make([]uint32, n)
		for i := range ids {
			ids[i] = <-p.headers
			p.write(func(fr *http2.Framer) error { return fr.WriteRSTStream(ids[i], http2.ErrCode(i%14)) })
		}
		for _, s := range streams {
			<-s.Done()
		}
		for i, id := range ids {
			if code, ok := c.ResetCode(id); !ok || code != http2.ErrCode(i%14) {
				t.Fatalf("stream %d, reset as number %d: got %v, %t, want %v", id, i, code, ok, http2.ErrCode(i%14))
			}
		}
		_, ok := c.ResetCode(ids[n-1] + 2)
		require.False(t, ok, "a stream that was not reset")
	})

	t.Run("the first counts", func(t *testing.T) { // what ended the stream, not what was sent into the void
		s := newStream(t, tr)
		id := <-p.headers
		p.write(func(fr *http2.Framer) error { return fr.WriteData(id, true, nil) })
		p.write(func(fr *http2.Framer) error { return fr.WriteRSTStream(id, http2.ErrCodeNo) })
		<-s.Done()
		pings := c.pongs.Load()
		require.NoError(t, c.ping(nil, time.Second)) // the RST_STREAM has been seen
		require.Greater(t, c.pongs.Load(), pings)
		code, ok := c.ResetCode(id)
		require.True(t, ok)
		require.Equal(t, transport.BareEnd, code)
	})

}
