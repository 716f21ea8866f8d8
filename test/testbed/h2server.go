package testbed

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"golang.org/x/net/http2"
)

// H2Server is a raw HTTP/2 server: a test takes the streams with Accept and plays the server itself, frame by frame, between
// the steps of the client.
type H2Server struct {
	Addr string

	ln       net.Listener
	options  []H2Option
	streams  chan *H2Stream  // streams that wait for Accept
	accepted func(*H2Stream) // called with every stream by the goroutine that reads its connection
	wg       sync.WaitGroup  // the accept loop, the connections, and the handlers of ServeH2

	mu     sync.Mutex // guards conns, closed
	conns  []*H2Conn
	closed bool
}

// maxUnaccepted bounds the streams that wait for Accept.
const maxUnaccepted = 4096

// NewH2Server listens on 127.0.0.1.
func NewH2Server(t testing.TB, options ...H2Option) *H2Server {
	t.Helper()
	s := newH2Server(t, options)
	s.streams = make(chan *H2Stream, maxUnaccepted)
	s.accepted = func(st *H2Stream) { s.streams <- st }
	s.start(t)
	return s
}

// ServeH2 is NewH2Server for many streams, which functions serve instead of the test. The goroutine that reads a connection
// calls admit with each of its streams in the order of arrival. If admit returns a function, it is called in a goroutine of
// its own to serve the stream. Both may use only those methods of the stream that return an error.
func ServeH2(t testing.TB, admit func(*H2Stream) (serve func()), options ...H2Option) *H2Server {
	t.Helper()
	s := newH2Server(t, options)
	s.accepted = func(st *H2Stream) {
		if serve := admit(st); serve != nil {
			s.wg.Go(serve)
		}
	}
	s.start(t)
	return s
}

func newH2Server(t testing.TB, options []H2Option) *H2Server {
	t.Helper()
	ln := listen(t)
	return &H2Server{Addr: ln.Addr().String(), ln: ln, options: options}
}

func (s *H2Server) start(t testing.TB) {
	s.wg.Add(1)
	go s.acceptConns()
	t.Cleanup(s.Close)
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	return ln
}

// Close closes the listener and every connection.
func (s *H2Server) Close() {
	s.mu.Lock()
	s.closed = true
	conns := s.conns
	s.mu.Unlock()
	s.ln.Close()
	for _, c := range conns {
		c.nc.Close()
	}
	s.wg.Wait()
}

// Accept waits for the next stream that a client opens, in the order of arrival. The first event on it is its request
// headers.
func (s *H2Server) Accept(t testing.TB) *H2Stream {
	t.Helper()
	st := Await(t, s.streams, "a request at the upstream")
	st.t = t
	return st
}

// AcceptAny is Accept on several servers: it returns the first stream that one of them has, and that server.
func AcceptAny(t testing.TB, servers ...*H2Server) (st *H2Stream, at *H2Server) {
	t.Helper()
	Poll(t, func() error {
		for _, s := range servers {
			select {
			case st = <-s.streams:
				st.t, at = t, s
				return nil
			default:
			}
		}
		return errors.New("no request at any upstream")
	})
	return st, at
}

// Unaccepted returns how many streams wait for Accept.
func (s *H2Server) Unaccepted() int { return len(s.streams) }

// AcceptUnless is Accept, but if the client's stream cs ends before a request comes here, it returns nil and the outcome of
// cs.
func (s *H2Server) AcceptUnless(t testing.TB, cs *H2Stream) (*H2Stream, Outcome) {
	t.Helper()
	var st *H2Stream
	var o Outcome
	Poll(t, func() error {
		select {
		case st = <-s.streams:
			st.t = t
			return nil
		default:
		}
		if o = cs.outcome(); o.over() {
			return nil
		}
		return errors.New("neither a request at the upstream nor an answer")
	})
	return st, o
}

// Conns returns all connections so far, open and closed.
func (s *H2Server) Conns() []*H2Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*H2Conn(nil), s.conns...)
}

func (s *H2Server) acceptConns() {
	defer s.wg.Done()
	for {
		nc, err := s.ln.Accept()
		if err != nil {
			return
		}
		c := newH2Conn(nc, s.accepted, s.options)
		s.mu.Lock()
		if s.closed {
			nc.Close()
		}
		s.conns = append(s.conns, c)
		s.mu.Unlock()
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			c.serveClient()
		}()
	}
}

// serveClient reads the preface, then frames.
func (c *H2Conn) serveClient() {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c.nc, preface); err != nil || string(preface) != http2.ClientPreface {
		c.nc.Close() // serve then ends with an error
	}
	if err := c.Write(func(fr *http2.Framer) error { return fr.WriteSettings(c.opts.settings...) }); err != nil {
		c.nc.Close()
	}
	c.serve()
}
