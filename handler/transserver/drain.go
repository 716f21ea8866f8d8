package transserver

import (
	"context"
	"net"
	"time"
)

// lingerTimeout is how long, after the last call has ended, clients may take to leave by themselves when the server
// stops. They have GOAWAY by then; what they sent before they read it is still served.
const lingerTimeout = time.Second

// callsPoll is how often calls are counted while the server stops.
const callsPoll = 50 * time.Millisecond

// How long the listener goes on to accept when the server stops. What waits in its queue when it is closed is reset by
// the kernel, so it has to be empty.
const (
	// acceptAlone is for what is in the queue. Who comes later is refused in any case.
	acceptAlone = 20 * time.Millisecond

	// acceptBeside is for handshakes that were under way when new ones began to go to another process: a round trip, and
	// one lost packet.
	acceptBeside = 1500 * time.Millisecond
)

// Shutdown tells clients to go away, and those that still come too, waits for their calls for up to the server's
// ExitWaitTime, and ends what is left. If another process listens on the same address, all new connections go there, and
// none that came here is lost.
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
	s.each((*conn).drain)
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
	s.each((*conn).cut)
	s.wg.Wait()
	return nil
}

// hasLate reports whether connections were accepted since Shutdown began.
func (s *Server) hasLate() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.late > 0
}

// retire makes the accept loop end soon. The next connections go to another process if there is one.
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

// drain returns when every client has left, or no call is under way and clients had time to leave, or ctx has ended. Kitex's
// GracefulShutdown does less, and reads transports that have no gate yet.
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
	s.awaitCalls(ctx) // those that came meanwhile
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
		s.each(func(c *conn) { running += c.running() })
		if running == 0 {
			return
		}
	}
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
