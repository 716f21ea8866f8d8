package relay

import (
	"errors"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/relay/h2"
)

// newPinged adds the connection to an endpoint that has sent a PING to those of a shard, whose mu is held.
func newPinged(t *testing.T, s *shard) *socket {
	ours, theirs, err := socketPair()
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	k, err := newSocket(s, ours)
	require.NoError(t, err)
	u := &upstreamConn{socket: k, settled: make(chan *h2.ConnError, 1)}
	k.owner = u
	cfg := h2.Config{}.WithDefaults()
	k.h2 = h2.NewClient(&cfg, u, s.memory, s.fields, s.now)
	k.h2.Receive(rawFrame(http2.FrameSettings, 0, 0, nil), s.now)
	k.h2.Open(new(h2.Stream), fieldsOf(":method", "POST", ":scheme", "http", ":path", "/s.S/M"), true)
	s.endpoints.add(k)
	_, err = theirs.Write(rawFrame(http2.FramePing, 0, 0, make([]byte, 8)))
	require.NoError(t, err)
	return k
}

// asked counts those of which take has read the PING.
func asked(all []*socket) (n int) {
	for _, k := range all {
		if out := k.h2.Output(); len(out) > 17 && http2.FrameType(out[len(out)-17+3]) == http2.FramePing {
			n++
		}
	}
	return n
}

// Of many connections some are read at a time, each in turn, and only those that an answer may come from.
func TestEndpoints_EachInTurn(t *testing.T) {
	s := newShard(h2.NewBudget(1 << 20))
	s.lock()
	defer s.mu.Unlock()
	s.endpoints.take() // there is none
	var all []*socket
	for range maxAsked + 2 {
		all = append(all, newPinged(t, s))
	}
	shut, gone := newPinged(t, s), newPinged(t, s)
	shut.shut = true
	ours, theirs, err := socketPair()
	require.NoError(t, err)
	require.NoError(t, theirs.Close())
	require.NoError(t, ours.Close())
	gone.raw, err = ours.(*net.UnixConn).SyscallConn()
	require.NoError(t, err)
	s.endpoints.take()
	require.Equal(t, maxAsked, asked(all))
	for range 3 {
		s.endpoints.take()
	}
	require.Equal(t, len(all), asked(all))
	require.Zero(t, asked([]*socket{shut, gone}))
	for _, k := range append(all, shut, gone) {
		s.endpoints.remove(k)
		s.endpoints.remove(k) // as a client's
		s.endpoints.take()
	}
	require.Empty(t, s.endpoints.all)
}

// A connection that has ended is not asked any more. Why it has ended is known also if it was asked at that moment.
func TestEndpoints_TheirEnds(t *testing.T) {
	for name, end := range map[string]func(*net.TCPConn) error{
		"closed by the peer":       (*net.TCPConn).CloseWrite,
		"connection reset by peer": func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			x := newEngine(t, 1, 100)
			x.open()
			s := x.shard
			s.lock()
			require.Len(t, s.endpoints.all, 1)
			require.NoError(t, end(x.peer.(*net.TCPConn)))
			require.Eventually(t, func() bool { s.endpoints.take(); return x.endpoint.readErr != nil }, patience, patience/1000)
			s.unlock()
			require.Eventually(t, func() bool { s.lock(); defer s.unlock(); return len(s.endpoints.all) == 0 }, patience, patience/1000)
			s.lock()
			defer s.unlock()
			require.Contains(t, x.endpoint.h2.Failure().Text, name)
		})
	}
}
