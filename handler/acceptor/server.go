package acceptor

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/cloudwego/kitex/pkg/utils"
)

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

	wg      sync.WaitGroup // the goroutines of connections
	retired chan struct{}  // closed when the accept loop has ended
	over    chan struct{}  // closed at the end of Shutdown

	mu       sync.Mutex // guards the fields below
	phase    phase
	listener net.Listener // nil before BootstrapServer
	conns    map[Conn]struct{}
	late     int           // connections accepted while draining
	emptied  chan struct{} // closed when conns is empty; nil unless Shutdown waits
}

var _ remote.TransServer = (*Server)(nil)

// Kitex returns the options of the Kitex server, and its handler of connections.
func (s *Server) Kitex() (*remote.ServerOption, remote.ServerTransHandler) { return s.opt, s.handler }

// Draining reports whether the server is about to end, so that a client is to open no streams.
func (s *Server) Draining() bool { return !s.is(phaseServing) }

// Go runs f in a goroutine, which Shutdown waits for: f returns when the channel over is closed. A data plane may call it in
// DataPlane.Conn.
func (s *Server) Go(f func(over <-chan struct{})) { s.wg.Go(func() { f(s.over) }) }

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
	c := s.plane.Conn(nc, s)
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
		c.Serve()
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

// SentAway counts and logs a client whose connection is ended for an offence, one of the data plane's Offences.
func (s *Server) SentAway(client net.Addr, offence string) {
	s.counts.away.Note(client.String(), offence)
}

// forget removes a connection that has ended.
func (s *Server) forget(c Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.counts.open.Store(int64(len(s.conns)))
	if len(s.conns) == 0 && s.emptied != nil {
		close(s.emptied)
		s.emptied = nil
	}
}

// Each calls f with every connection.
func (s *Server) Each(f func(Conn)) {
	s.mu.Lock()
	all := make([]Conn, 0, len(s.conns))
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
