package acceptor

import (
	"context"
	"net"
	"time"
)

// lingerTimeout is how long clients may take to close their connections after the last call has ended, when the server
// stops. They have been sent a GOAWAY by then. Calls that they sent before they read it are still served.
const lingerTimeout = time.Second

// callsPoll is the time between two counts of the calls under way while the server stops.
const callsPoll = 50 * time.Millisecond

// How long the listener accepts connections after Shutdown has begun. The kernel resets the connections that are in the
// listener's queue when it is closed, so the queue has to be empty by then.
const (
	// acceptAlone is the time without another process that takes over: long enough to empty the queue. Clients that connect
	// later are refused in any case.
	acceptAlone = 20 * time.Millisecond

	// acceptBeside is the time after another process has taken over: long enough for TCP handshakes that were under way at
	// that moment, with a round trip and a packet that is lost once.
	acceptBeside = 1500 * time.Millisecond
)

// Shutdown implements remote.TransServer. It sends a GOAWAY to all clients, also to those that connect now, waits for their
// calls for up to Config.ExitWait, and closes the connections that are left. If another process listens on the same address,
// new connections go there, and none that came to this server is lost.
func (s *Server) Shutdown() error {
	s.mu.Lock()
	s.phase = phaseDraining
	ln := s.listener
	s.mu.Unlock()
	wait := s.opt.ExitWaitTime
	if s.cfg.ExitWait != nil {
		wait = s.cfg.ExitWait()
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	s.retire(ln)
	s.Each(Conn.Drain)
	s.drain(ctx)
	if ln != nil {
		<-s.retired
		if s.hasLate() {
			s.drain(ctx)
		}
	}
	s.mu.Lock()
	s.phase = phaseOver
	s.mu.Unlock()
	close(s.over)
	s.Each(Conn.Cut)
	s.wg.Wait()
	return nil
}

// hasLate reports whether connections were accepted since Shutdown began.
func (s *Server) hasLate() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.late > 0
}

// retire makes the accept loop end soon, and new connections go to another process if one listens on the same address. ln
// may be nil.
func (s *Server) retire(ln net.Listener) {
	d, ok := ln.(interface{ SetDeadline(time.Time) error })
	if !ok {
		if ln != nil {
			_ = ln.Close()
		}
		return
	}
	wait := acceptAlone
	if s.cfg.ReusePort && s.steerAway(ln) {
		wait = acceptBeside
	}
	_ = d.SetDeadline(time.Now().Add(wait))
}

// drain waits until every client has closed its connection, or no call is under way and lingerTimeout has passed, or ctx has
// ended. It replaces Kitex's GracefulShutdown, which does not wait for clients to leave, and which reads the transport of a
// connection while serve may still set its gate.
func (s *Server) drain(ctx context.Context) {
	s.awaitCalls(ctx)
	linger := time.NewTimer(lingerTimeout)
	defer linger.Stop()
	select {
	case <-s.empty():
		return
	case <-ctx.Done():
		return
	case <-linger.C:
	}
	s.awaitCalls(ctx) // calls that clients began before they read the GOAWAY
}

// awaitCalls returns when no call is under way, or ctx has ended.
func (s *Server) awaitCalls(ctx context.Context) {
	tick := time.NewTicker(callsPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		running := 0
		s.Each(func(c Conn) { running += c.Calls() })
		if running == 0 {
			return
		}
	}
}

// empty returns a channel that is closed when the server has no connection.
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
