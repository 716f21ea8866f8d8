// Package transserver accepts connections for a Kitex server of gRPC: it is a remote.TransServer over plain sockets.
//
// Kitex's own, over netpoll, closes its listener's descriptor twice when it stops, and so may close a connection of
// somebody else (netpoll v0.7.2); it waits for ever for the rest of a client's preface; and it takes Thrift beside gRPC.
// This one gives each connection a goroutine, a bounded time for its preface, and an answer to HTTP/1.
//
// Enter at Options; then Server.BootstrapServer and conn.go.
package transserver

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2"
	"github.com/cloudwego/kitex/pkg/utils"
	"github.com/cloudwego/kitex/server"
)

// prefaceTimeout bounds how long a new connection may take to show that it speaks HTTP/2.
const prefaceTimeout = 10 * time.Second

// lingerTimeout is how long, after the last call has ended, clients may take to leave by themselves when the server
// stops. They have GOAWAY by then; what they sent before they read it is still served.
const lingerTimeout = time.Second

// Options are what a Kitex server needs to take its connections from this package.
func Options() []server.Option {
	return []server.Option{
		server.WithTransServerFactory(factory{prefaceTimeout}),
		server.WithTransHandlerFactory(nphttp2.NewSvrTransHandlerFactory()),
	}
}

type factory struct{ prefaceTimeout time.Duration }

// NewTransServer implements remote.TransServerFactory.
func (f factory) NewTransServer(opt *remote.ServerOption, handler remote.ServerTransHandler) remote.TransServer {
	return &Server{opt: opt, handler: handler, prefaceTimeout: f.prefaceTimeout, conns: map[*conn]struct{}{}}
}

// Server is a remote.TransServer.
type Server struct {
	opt            *remote.ServerOption
	handler        remote.ServerTransHandler
	prefaceTimeout time.Duration

	wg sync.WaitGroup // a connection each

	mu       sync.Mutex // guards the fields below
	listener net.Listener
	conns    map[*conn]struct{}
	stopping bool
	emptied  chan struct{} // closed when conns is empty; nil unless Shutdown waits
}

var _ remote.TransServer = (*Server)(nil)

// CreateListener implements remote.TransServer.
func (s *Server) CreateListener(addr net.Addr) (net.Listener, error) {
	return net.Listen(addr.Network(), addr.String())
}

// BootstrapServer accepts connections until Shutdown, and returns an error only if accepting fails before.
func (s *Server) BootstrapServer(ln net.Listener) error {
	s.mu.Lock()
	s.listener = ln
	stopping := s.stopping
	s.mu.Unlock()
	if stopping {
		return ln.Close()
	}
	for wait := time.Duration(0); ; {
		nc, err := ln.Accept()
		if err == nil {
			wait = 0
			s.start(nc)
			continue
		}
		if s.isStopping() {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		// Out of descriptors, say: those in use may be given back.
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		klog.Errorf("framegate: accept: %v; trying again in %s", err, wait)
		time.Sleep(wait)
	}
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

func (s *Server) start(nc net.Conn) {
	c := newConn(nc)
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		_ = nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.wg.Done()
		defer s.forget(c)
		c.serve(s.handler, s.prefaceTimeout, s.opt.GRPCCfg.MaxStreams)
	}()
}

func (s *Server) forget(c *conn) {
	_ = c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if len(s.conns) == 0 && s.emptied != nil {
		close(s.emptied)
		s.emptied = nil
	}
}

// Shutdown stops accepting, tells clients to go away, waits for their calls for up to the server's ExitWaitTime, and ends
// what is left.
func (s *Server) Shutdown() error {
	s.mu.Lock()
	s.stopping = true
	ln := s.listener
	s.mu.Unlock()
	var err error
	if ln != nil {
		err = ln.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.opt.ExitWaitTime)
	defer cancel()
	s.drain(ctx)
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return err
}

// drain returns when every client has left, or no call is under way and clients had time to leave, or ctx has ended.
func (s *Server) drain(ctx context.Context) {
	g, ok := s.handler.(remote.GracefulShutdown)
	if !ok {
		return
	}
	_ = g.GracefulShutdown(ctx) // always nil; sends GOAWAY and waits for calls
	linger := time.NewTimer(lingerTimeout)
	defer linger.Stop()
	select {
	case <-s.empty():
		return
	case <-ctx.Done():
		return
	case <-linger.C:
	}
	_ = g.GracefulShutdown(ctx) // for calls that came meanwhile
}

// empty returns a channel that is closed when there is no connection.
func (s *Server) empty() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := make(chan struct{})
	if len(s.conns) == 0 {
		close(done)
		return done
	}
	s.emptied = done
	return done
}

// ConnCount implements remote.TransServer.
func (s *Server) ConnCount() utils.AtomicInt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return utils.AtomicInt(len(s.conns))
}
