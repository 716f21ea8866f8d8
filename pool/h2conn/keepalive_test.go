package h2conn

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	gogrpc "google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// quiet is how long a test watches that something does not happen: many times what it would take.
const quiet = 150 * time.Millisecond

// keepalive runs RunKeepalive; its result comes on the channel. The test's end stops it.
func keepalive(t *testing.T, c *Conn, k Keepalive, streams func() int) <-chan error {
	done, result := make(chan struct{}), make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { result <- c.RunKeepalive(done, k, streams) })
	t.Cleanup(func() {
		close(done)
		wg.Wait()
	})
	return result
}

func oneStream() int { return 1 }

// never fails the test if cond comes to hold within quiet, or the keepalive ends.
func never(t *testing.T, what string, ended <-chan error, cond func() bool) {
	t.Helper()
	watch := time.NewTimer(quiet)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-watch.C:
			return
		case err := <-ended:
			t.Fatalf("the keepalive ended: %v", err)
		case <-tick.C:
			if cond() {
				t.Fatal(what)
			}
		}
	}
}

func TestKeepalive_ThreePingsThenPoliteUntilDataComes(t *testing.T) {
	nc, p := newPeer(t, nil)
	c := New(nc, 64<<10, nil)
	tr, _ := transportOn(t, c)
	waitSettings(t, c)
	newStream(t, tr)
	stream := <-p.headers

	ended := keepalive(t, c, Keepalive{Time: 3 * time.Millisecond, Timeout: time.Second}, oneStream)
	eventually(t, "three pings", func() bool { return p.pings.Load() == 3 })
	never(t, "a fourth ping while the peer is silent", ended, func() bool { return p.pings.Load() > 3 })

	// Two more each time, not three: the server may have counted a ping after it wrote what came (see freePings).
	p.answer(stream) // HEADERS
	eventually(t, "two pings after HEADERS", func() bool { return p.pings.Load() == 5 })
	never(t, "a third ping after HEADERS", ended, func() bool { return p.pings.Load() > 5 })
	p.data(stream, []byte("x"))
	eventually(t, "two pings after DATA", func() bool { return p.pings.Load() == 7 })
	never(t, "a third ping after DATA", ended, func() bool { return p.pings.Load() > 7 })
}

func TestKeepalive_NoPingWithoutStreamsOrTime(t *testing.T) {
	for name, tc := range map[string]struct {
		k       Keepalive
		streams int
	}{
		"no streams": {Keepalive{Time: time.Millisecond, Timeout: time.Second}, 0},
		"time 0":     {Keepalive{Time: 0, Timeout: time.Second}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			nc, p := newPeer(t, nil)
			c := New(nc, 64<<10, nil)
			transportOn(t, c)
			waitSettings(t, c)
			ended := keepalive(t, c, tc.k, func() int { return tc.streams })
			never(t, "a ping", ended, func() bool { return p.pings.Load() > 0 })
		})
	}
}

func TestKeepalive_NoAnswerEndsTheConnection(t *testing.T) {
	nc, p := newPeer(t, func(p *peer) { p.silent = true })
	c := New(nc, 64<<10, nil)
	transportOn(t, c)
	waitSettings(t, c)
	k := Keepalive{Time: 20 * time.Millisecond, Timeout: 100 * time.Millisecond}
	start := time.Now()
	err := c.RunKeepalive(make(chan struct{}), k, oneStream)
	took := time.Since(start)
	require.ErrorIs(t, err, ErrKeepalive)
	require.EqualValues(t, 1, p.pings.Load())
	require.GreaterOrEqual(t, took, k.Timeout)
	require.Less(t, took, 2*k.Time+k.Timeout+time.Second)
}

// A peer too busy with answers to acknowledge a ping is alive.
func TestKeepalive_DataIsAnAnswer(t *testing.T) {
	nc, p := newPeer(t, func(p *peer) { p.silent = true })
	c := New(nc, 64<<10, nil)
	tr, _ := transportOn(t, c)
	waitSettings(t, c)
	newStream(t, tr)
	stream := <-p.headers
	p.answer(stream)
	ended := keepalive(t, c, Keepalive{Time: 5 * time.Millisecond, Timeout: 200 * time.Millisecond}, oneStream)
	for range 6 {
		n := p.pings.Load()
		eventually(t, "a ping", func() bool { return p.pings.Load() > n })
		p.data(stream, []byte("x"))
	}
	select {
	case err := <-ended:
		t.Fatalf("the keepalive ended: %v", err)
	default:
	}
}

func TestKeepalive_EndsWithDone(t *testing.T) {
	for name, k := range map[string]Keepalive{
		"while it waits for the time": {Time: time.Hour, Timeout: time.Hour},
		"while a ping is out":         {Time: time.Millisecond, Timeout: time.Hour},
		"that never pings":            {},
	} {
		t.Run(name, func(t *testing.T) {
			nc, p := newPeer(t, func(p *peer) { p.silent = true })
			c := New(nc, 64<<10, nil)
			transportOn(t, c)
			waitSettings(t, c)
			done, result := make(chan struct{}), make(chan error, 1)
			go func() { result <- c.RunKeepalive(done, k, oneStream) }()
			if k.Time == time.Millisecond {
				eventually(t, "a ping", func() bool { return p.pings.Load() > 0 })
			}
			close(done)
			select {
			case err := <-result:
				require.NoError(t, err)
			case <-time.After(patience):
				t.Fatal("RunKeepalive did not end")
			}
		})
	}
}

// idleServer is a grpc-go server, with its default limits on pings, whose one method answers with headers and then a
// message for each that a test puts into send.
type idleServer struct {
	addr string
	send chan struct{}
	acks chan struct{} // gets one for each PING ACK that the server has written
}

func newIdleServer(t *testing.T) *idleServer {
	s := &idleServer{send: make(chan struct{}), acks: make(chan struct{}, 1000)}
	ln := listen(t)
	s.addr = ln.Addr().String()
	server := gogrpc.NewServer(gogrpc.UnknownServiceHandler(func(_ any, stream gogrpc.ServerStream) error {
		if err := stream.SendHeader(nil); err != nil {
			return err
		}
		for {
			select {
			case <-stream.Context().Done():
				return nil
			case <-s.send:
				if err := stream.SendMsg(&emptypb.Empty{}); err != nil {
					return err
				}
			}
		}
	}))
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(&tappedListener{ln, s.acks}) })
	t.Cleanup(func() {
		server.Stop()
		wg.Wait()
	})
	return s
}

type tappedListener struct {
	net.Listener
	acks chan<- struct{}
}

func (l *tappedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	return &tappedConn{nc, l.acks}, err
}

type tappedConn struct {
	net.Conn
	acks chan<- struct{}
}

var pingAck = append([]byte{0, 0, 8, 6, 1, 0, 0, 0, 0}, pingData[:]...)

func (c *tappedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	for range bytes.Count(p, pingAck) {
		c.acks <- struct{}{}
	}
	return n, err
}

// gated is a client's connection that can hold back what the server sent, and counts our pings.
type gated struct {
	net.Conn
	mu      sync.Mutex
	gate    chan struct{} // nil: open
	arrived chan struct{} // gets one when something is held back
	pings   atomic.Int64
}

func (g *gated) hold() (open func()) {
	gate := make(chan struct{})
	g.mu.Lock()
	g.gate = gate
	g.mu.Unlock()
	return func() {
		g.mu.Lock()
		g.gate = nil
		g.mu.Unlock()
		close(gate)
	}
}

func (g *gated) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	g.mu.Lock()
	gate := g.gate
	g.mu.Unlock()
	if gate != nil {
		g.arrived <- struct{}{}
		<-gate
	}
	return n, err
}

func (g *gated) Write(p []byte) (int, error) {
	if len(p) == frameHeaderLen+8 && bytes.HasSuffix(p, pingData[:]) {
		g.pings.Add(1)
	}
	return g.Conn.Write(p)
}

// A grpc-go server with its default policy ends the connection at the third ping too many. One that is idle under an
// open stream must live.
func TestKeepalive_NeverTooManyPingsForGRPCGo(t *testing.T) {
	setUp := func(t *testing.T) (*idleServer, *gated, *Conn, <-chan struct{}, <-chan struct{}) {
		server := newIdleServer(t)
		nc, err := net.Dial("tcp", server.addr)
		require.NoError(t, err)
		g := &gated{Conn: nc, arrived: make(chan struct{}, 1000)}
		c := New(g, 64<<10, nil)
		tr, lost := transportOn(t, c)
		waitSettings(t, c)
		_, err = newStream(t, tr).Header()
		require.NoError(t, err)
		return server, g, c, tr.GoAway(), lost
	}
	ended := func(chans ...<-chan struct{}) func() bool {
		return func() bool {
			for _, ch := range chans {
				select {
				case <-ch:
					return true
				default:
				}
			}
			return false
		}
	}
	k := Keepalive{Time: 2 * time.Millisecond, Timeout: time.Second}

	t.Run("an idle stream", func(t *testing.T) {
		_, g, c, goAway, lost := setUp(t)
		result := keepalive(t, c, k, oneStream)
		eventually(t, "three pings", func() bool { return g.pings.Load() == 3 })
		never(t, "the server ended the connection, or a fourth ping was sent", result, func() bool {
			return ended(goAway, lost)() || g.pings.Load() > 3
		})
	})

	t.Run("a message now and then", func(t *testing.T) {
		server, g, c, goAway, lost := setUp(t)
		result := keepalive(t, c, k, oneStream)
		for range 5 {
			n := g.pings.Load()
			eventually(t, "pings after a message", func() bool { return g.pings.Load() >= n+2 })
			server.send <- struct{}{}
		}
		never(t, "the server ended the connection", result, ended(goAway, lost))
	})

	// The server writes a message, which forgives pings; a ping that was sent before that message arrived uses up the
	// forgiveness, although here the message comes after it. Then only two more are free.
	t.Run("a message that crosses a ping", func(t *testing.T) {
		server, g, c, goAway, lost := setUp(t)
		open := g.hold()
		server.send <- struct{}{}
		<-g.arrived // the message, or news of the window, is on its way: the server has written it
		result := keepalive(t, c, k, oneStream)
		<-server.acks // the server has counted the first ping
		open()
		eventually(t, "two more pings", func() bool { return g.pings.Load() >= 3 })
		never(t, "the server ended the connection", result, ended(goAway, lost))
	})

	t.Run("the server would mind a fourth", func(t *testing.T) { // or the tests above prove nothing
		_, _, c, goAway, lost := setUp(t)
		for range 4 {
			_ = c.ping(lost, 100*time.Millisecond)
		}
		eventually(t, "too_many_pings", ended(goAway, lost))
	})
}
