// Package transserver accepts connections for a Kitex server of gRPC: it is a remote.TransServer over plain sockets.
//
// It replaces Kitex's own TransServer over netpoll, which closes its listener's descriptor twice when it stops, and so may
// close a connection that has got the same descriptor since (netpoll v0.7.2); waits for ever for the rest of a client's
// preface; and accepts Thrift beside gRPC. This one has a goroutine for each connection, bounds the time for the preface,
// answers HTTP/1, and has a guard against clients that mean harm.
//
// Enter at Acceptor; then Server.BootstrapServer, conn.go (a connection), guard.go (what a client may do), requests.go and
// refuse.go (which requests are not gRPC, and how they are answered), stuck.go (ends connections whose client reads
// nothing), crash.go (ends connections whose transport has panicked), workers.go (the goroutines of calls), descriptors.go
// (the limit of open files), drain.go (shutdown), reuseport.go (hands the port over to another process) and transport.go
// (what is read from Kitex's transport).
package transserver

import (
	"errors"
	"log/slog"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/utils"
	"github.com/cloudwego/kitex/server"
)

// prefaceTimeout bounds how long a new connection may take to show that it speaks HTTP/2.
const prefaceTimeout = 10 * time.Second

// defaultWriteTimeout is the default of Config.WriteTimeout.
const defaultWriteTimeout = 3 * time.Minute

// Config configures an Acceptor.
type Config struct {
	MaxConnections int                  // further connections are closed at once; 0 means no bound; see SetMaxConnections
	WriteTimeout   time.Duration        // how long one write to a client (of up to about 64 KiB) may take; 0 means 3 minutes
	ReusePort      bool                 // the listener was made by Listen with ReusePort: at Shutdown another process may take over
	Gate           Gate                 // called for each call, which it may end; nil lets all in
	Refuse         Refuse               // answers each request that is not gRPC; nil leaves them to Kitex, which resets most of them
	ExitWait       func() time.Duration // how long Shutdown waits for calls; nil means the Kitex server's ExitWaitTime
	Descriptors    *Descriptors         // shared by the listeners of a process; nil means no bound
	Log            *slog.Logger         // nil for none

	prefaceTimeout time.Duration
}

// Acceptor accepts the connections of one Kitex server. It is safe for concurrent use.
type Acceptor struct {
	cfg      Config
	maxConns atomic.Int64 // 0 means no bound
	counts   counts
	serving  chan struct{} // closed when the server accepts
	once     sync.Once     // closes serving
}

// New returns an Acceptor for one Kitex server; see Acceptor.Options.
func New(cfg Config) *Acceptor {
	if cfg.prefaceTimeout == 0 {
		cfg.prefaceTimeout = prefaceTimeout
	}
	if cfg.WriteTimeout == 0 {
		cfg.WriteTimeout = defaultWriteTimeout
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	a := &Acceptor{cfg: cfg, serving: make(chan struct{})}
	a.SetMaxConnections(cfg.MaxConnections)
	return a
}

// SetMaxConnections changes Config.MaxConnections. It may be called at any time: connections that are open stay.
func (a *Acceptor) SetMaxConnections(n int) { a.maxConns.Store(int64(n)) }

// Options returns the options with which a Kitex server gets its connections from an Acceptor with the zero Config.
func Options() []server.Option { return New(Config{}).Options() }

// Options returns the options with which a Kitex server gets its connections from the acceptor.
func (a *Acceptor) Options() []server.Option {
	return []server.Option{
		server.WithTransServerFactory(a),
		server.WithTransHandlerFactory(nphttp2.NewSvrTransHandlerFactory()),
	}
}

// Serving returns a channel that is closed when the server accepts connections. A Kitex server must not be stopped before,
// because its Stop races with its start.
func (a *Acceptor) Serving() <-chan struct{} { return a.serving }

// NewTransServer implements remote.TransServerFactory.
func (a *Acceptor) NewTransServer(opt *remote.ServerOption, handler remote.ServerTransHandler) remote.TransServer {
	return &Server{
		Acceptor: a, opt: opt, handler: handler, conns: map[*conn]struct{}{}, retired: make(chan struct{}), over: make(chan struct{}),
	}
}

// phase is the state of a server:
//
//	serving --- Shutdown ---> draining ---> over
type phase int

const (
	phaseServing  phase = iota
	phaseDraining       // every client is sent a GOAWAY, also those that connect now
	phaseOver           // new connections are refused
)

// Server is a remote.TransServer.
type Server struct {
	*Acceptor
	opt     *remote.ServerOption
	handler remote.ServerTransHandler

	wg      sync.WaitGroup // the goroutines of connections, and cutStuck
	retired chan struct{}  // closed when the accept loop has ended
	over    chan struct{}  // closed at the end of Shutdown

	mu       sync.Mutex // guards the fields below
	phase    phase
	listener net.Listener // nil before BootstrapServer
	conns    map[*conn]struct{}
	late     int           // connections accepted while draining
	emptied  chan struct{} // closed when conns is empty; nil unless Shutdown waits
}

var _ remote.TransServer = (*Server)(nil)

// CreateListener implements remote.TransServer.
func (s *Server) CreateListener(addr net.Addr) (net.Listener, error) {
	return net.Listen(addr.Network(), addr.String())
}

// BootstrapServer accepts connections until Shutdown, and then returns nil. It returns an error if the listener is closed
// before.
func (s *Server) BootstrapServer(ln net.Listener) error {
	defer close(s.retired)
	s.mu.Lock()
	s.listener = ln
	begun := s.phase == phaseServing
	if begun {
		s.wg.Go(s.cutStuck)
	}
	s.mu.Unlock()
	s.once.Do(func() { close(s.serving) })
	if !begun {
		return ln.Close()
	}
	for wait := time.Duration(0); ; {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			wait = 0
			s.start(nc)
			continue
		case errors.Is(err, os.ErrDeadlineExceeded): // Shutdown has set it
			return ln.Close()
		case errors.Is(err, net.ErrClosed):
			if s.is(phaseServing) {
				return err
			}
			return nil
		}
		if isOutOfDescriptors(err) && s.cfg.Descriptors.lend() {
			continue
		}
		// Descriptors in use may be freed: try again.
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		klog.Errorf("framegate: accept: %v; trying again in %s", err, wait)
		time.Sleep(wait)
	}
}

func (s *Server) is(p phase) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase == p
}

// start serves a new connection in a goroutine, or refuses it.
func (s *Server) start(nc net.Conn) {
	s.mu.Lock()
	if limit := int(s.maxConns.Load()); s.phase == phaseOver || limit > 0 && len(s.conns) >= limit {
		s.mu.Unlock()
		s.refuse(nc, "there are max_connections of them")
		return
	}
	if !s.cfg.Descriptors.take() {
		s.mu.Unlock()
		s.refuse(nc, "the limit of open files leaves no room")
		return
	}
	c := newConn(nc, s)
	s.conns[c] = struct{}{}
	s.counts.open.Store(int64(len(s.conns)))
	if s.phase == phaseDraining {
		s.late++
	}
	s.wg.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.wg.Done()
		defer s.cfg.Descriptors.giveBack()
		defer s.forget(c)
		c.serve()
	}()
}

// refuse closes a connection that is over a limit, with a TCP reset, so that it leaves no socket in TIME_WAIT.
func (s *Server) refuse(nc net.Conn, why string) {
	s.counts.refused.Add(1)
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = nc.Close()
	if n, ok := s.counts.refusals.note(); ok {
		s.cfg.Log.Warn("connections refused: "+why, "max_connections", s.maxConns.Load(), "refused", n)
	}
}

// offended counts and logs a client whose connection is ended for an offence.
func (s *Server) offended(c *conn, o *Offence) {
	s.counts.offence(o).Add(1)
	if n, ok := s.counts.offences.note(); ok {
		s.cfg.Log.Warn("client sent away", "client", c.RemoteAddr().String(), "reason", o.Name, "clients_since_last_line", n)
	}
}

// forget removes a connection that has ended.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.counts.open.Store(int64(len(s.conns)))
	if len(s.conns) == 0 && s.emptied != nil {
		close(s.emptied)
		s.emptied = nil
	}
}

// each calls f with every connection.
func (s *Server) each(f func(*conn)) {
	s.mu.Lock()
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		f(c)
	}
}

// ConnCount implements remote.TransServer.
func (s *Server) ConnCount() utils.AtomicInt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return utils.AtomicInt(len(s.conns))
}

// maxHeaderBytes returns Kitex's bound of a call's metadata: the server's MAX_HEADER_LIST_SIZE.
func maxHeaderBytes(cfg *grpc.ServerConfig) uint32 {
	if cfg.MaxHeaderListSize == nil {
		return math.MaxUint32
	}
	return *cfg.MaxHeaderListSize
}
