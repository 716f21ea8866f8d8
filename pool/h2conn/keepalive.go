package h2conn

import (
	"errors"
	"time"

	"golang.org/x/net/http2"
)

// Keepalive says when a silent connection is probed with PING frames.
//
// A gRPC server ends a connection with "too_many_pings" at the third ping that comes less than five minutes after the one
// before it, if the server has sent no DATA or HEADERS in between (gRPC proposal A8, the defaults of grpc-go, grpc-java and
// C-core). So after three pings without DATA or HEADERS from the peer, RunKeepalive leaves at least five minutes between two
// pings.
type Keepalive struct {
	Time    time.Duration // how long the peer may be silent before a ping, while there are streams; 0 means that there are no pings
	Timeout time.Duration // how long a ping may stay without an answer
}

const (
	freePings      = 3                             // pings that every server accepts after DATA or HEADERS of its own, whatever the time between them
	politeInterval = 5*time.Minute + 5*time.Second // time between two pings that every server accepts
)

// pingData is the payload of keepalive pings. The transport's own pings have other payloads.
var (
	pingData  = [8]byte{'f', 'r', 'a', 'm', 'e', 'g', 't', '1'}
	pingFrame = append([]byte{0, 0, 8, byte(http2.FramePing), 0, 0, 0, 0, 0}, pingData[:]...)
)

// ErrKeepalive says that the peer did not answer a ping in time: the connection is dead and must be closed.
var ErrKeepalive = errors.New("no answer to a keepalive ping")

// RunKeepalive sends pings while the peer is silent, as k says. It returns nil when done is closed, and ErrKeepalive when a
// ping was not answered in time. streams returns the number of open streams. The peer is checked once every k.Time, so a
// ping is sent after a silence of one to two times k.Time.
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
			// The server has reset its count of pings when it sent this DATA or HEADERS, but may have received the last ping
			// after that.
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

// ping sends a PING. It returns nil when the answer, DATA or HEADERS has come, or done is closed, and ErrKeepalive after
// timeout.
func (c *Conn) ping(done <-chan struct{}, timeout time.Duration) error {
	before, beforeCalls := c.pongs.Load(), c.calls.Load()
	c.pmu.Lock()
	if !c.closed {
		c.pings.Go(c.writePing) // in a goroutine: the write may block if the peer has stopped; Close ends it and waits for it
	}
	c.pmu.Unlock()
	const step = 20 // checks within timeout
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
