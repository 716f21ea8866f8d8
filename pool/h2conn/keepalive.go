package h2conn

import (
	"errors"
	"time"

	"golang.org/x/net/http2"
)

// Keepalive says how a silent connection is probed with PING frames.
//
// A gRPC server ends a connection with "too_many_pings" at the third ping too many: one within five minutes of the one
// before, without DATA or HEADERS of its own between (gRPC proposal A8, the defaults of grpc-go, grpc-java and C-core).
// So after three pings without an answer to a call between, Run leaves at least five minutes between pings.
type Keepalive struct {
	Time    time.Duration // how long the peer may be silent before a ping, while there are streams; 0 means never ping
	Timeout time.Duration // how long a ping may stay without an answer
}

const (
	freePings      = 3 // pings that no server minds, counted from the last DATA or HEADERS that it wrote
	politeInterval = 5*time.Minute + 5*time.Second
)

// pingData marks our own pings; Kitex uses others.
var (
	pingData  = [8]byte{'f', 'r', 'a', 'm', 'e', 'g', 't', '1'}
	pingFrame = append([]byte{0, 0, 8, byte(http2.FramePing), 0, 0, 0, 0, 0}, pingData[:]...)
)

// ErrKeepalive says that the peer did not answer a ping in time: the connection is dead and must be closed.
var ErrKeepalive = errors.New("no answer to a keepalive ping")

// RunKeepalive probes the connection until done is closed, which gives nil, or a ping goes unanswered, which gives
// ErrKeepalive. streams says how many streams are open. Silence is counted in whole ticks of k.Time, so a ping comes
// after one to two times k.Time.
func (c *Conn) RunKeepalive(done <-chan struct{}, k Keepalive, streams func() int) error {
	if k.Time <= 0 {
		<-done
		return nil
	}
	tick := time.NewTicker(k.Time)
	defer tick.Stop()
	var (
		lastCalls = c.calls.Load()
		sent      int // pings since the last DATA or HEADERS
		lastPing  time.Time
	)
	for {
		select {
		case <-done:
			return nil
		case <-tick.C:
		}
		if calls := c.calls.Load(); calls != lastCalls {
			// The server forgave all pings when it wrote what came, but may have received the last one after that.
			lastCalls, sent = calls, min(sent, 1)
			continue
		}
		if streams() == 0 || (sent >= freePings && time.Since(lastPing) < politeInterval) {
			continue
		}
		sent, lastPing = sent+1, time.Now()
		if err := c.ping(done, k.Timeout); err != nil {
			return err
		}
	}
}

// ping sends a PING and waits for its answer, or for done.
func (c *Conn) ping(done <-chan struct{}, timeout time.Duration) error {
	before, beforeCalls := c.pongs.Load(), c.calls.Load()
	c.pmu.Lock()
	if !c.closed {
		c.pings.Go(c.writePing) // a stopped peer may leave the socket full: the write then ends with Close, which waits for it
	}
	c.pmu.Unlock()
	const step = 20 // looks per timeout
	wait := time.NewTicker(timeout / step)
	defer wait.Stop()
	for range step {
		select {
		case <-done:
			return nil
		case <-wait.C:
		}
		if c.pongs.Load() != before || c.calls.Load() != beforeCalls {
			return nil
		}
	}
	return ErrKeepalive
}
