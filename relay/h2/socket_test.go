package h2

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/relay/h2/hpack"
)

// hooks are Events of functions, those that are set.
type hooks struct {
	opened func() *Stream
	head   func(s *Stream, h *Head)
	data   func(s *Stream, p []byte, end bool)
	sent   func(s *Stream, n int)
	done   func(s *Stream)
	reset  func(s *Stream, r *Reset)
	wake   func()
}

func (k *hooks) Opened() *Stream { return k.opened() }

func (k *hooks) Head(s *Stream, h *Head) { k.head(s, h) }

func (k *hooks) Data(s *Stream, p []byte, end bool) { k.data(s, p, end) }

func (k *hooks) Sent(s *Stream, p []byte) {
	if k.sent != nil {
		k.sent(s, len(p))
	}
}

func (k *hooks) Done(s *Stream) {
	if k.done != nil {
		k.done(s)
	}
}

func (k *hooks) Reset(s *Stream, r *Reset) {
	if k.reset != nil {
		k.reset(s, r)
	}
}

func (k *hooks) Refused() {}

func (k *hooks) SettingsChanged() {}

func (k *hooks) GoingAway(http2.ErrCode, string) {}

func (k *hooks) Pong() {}

func (k *hooks) Wake() {
	if k.wake != nil {
		k.wake()
	}
}

// socket moves the bytes of a Conn, in a goroutine that reads and one that writes.
type socket struct {
	mu    *sync.Mutex // guards everything of the Conn; sockets that are joined share it
	nc    net.Conn
	began time.Time // 0 on the Conn's clock
	conn  *Conn
	more  *sync.Cond // there is output, or the socket is closed
	shut  bool
	wg    sync.WaitGroup
}

// newSocket returns a socket for nc, and a client's or a server's Conn with it.
func newSocket(mu *sync.Mutex, nc net.Conn, k *hooks, client bool, cfg Config) *socket {
	cfg = cfg.WithDefaults()
	s := &socket{mu: mu, nc: nc, began: time.Now(), more: sync.NewCond(mu)}
	k.wake = s.more.Signal
	memory, fields := NewMemory(NewBudget(64<<20)), hpack.NewInterner(1024, 512)
	if client {
		s.conn = NewClient(&cfg, k, memory, fields, 0)
	} else {
		s.conn = NewServer(&cfg, k, memory, fields, 0)
	}
	s.wg.Go(s.read)
	s.wg.Go(s.write)
	return s
}

func (s *socket) read() {
	buf := make([]byte, 64<<10)
	for {
		s.mu.Lock()
		kept := copy(buf, s.conn.Partial())
		s.mu.Unlock()
		n, err := s.nc.Read(buf[kept:])
		s.mu.Lock()
		if err != nil {
			s.conn.Close(&ConnError{Text: err.Error(), Peer: true})
			s.shut = true
			s.more.Signal()
			s.mu.Unlock()
			return
		}
		s.conn.Receive(buf[:kept+n], int64(time.Since(s.began)))
		s.mu.Unlock()
	}
}

func (s *socket) write() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []byte
	for !s.shut {
		s.conn.Flushed()
		out = append(out[:0], s.conn.Output()...)
		if len(out) == 0 {
			s.more.Wait()
			continue
		}
		s.mu.Unlock()
		n, err := s.nc.Write(out)
		s.mu.Lock()
		if err != nil {
			return
		}
		s.conn.Wrote(n)
	}
}

// close closes the socket and waits for its goroutines.
func (s *socket) close() {
	_ = s.nc.Close()
	s.wg.Wait()
}

// loopback returns two ends of a TCP connection.
func loopback(t *testing.T) (a, b net.Conn) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	a, err = net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	b, err = ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a, b
}
