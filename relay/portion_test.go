package relay

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/relay/h2/hpack"
)

// Of a client whose calls are refused little is read at once, and not before the answers that make room.
func TestPortion_OfAClientWhoseCallsAreRefused(t *testing.T) {
	x := newFullEngine(t, 10)
	s, calls, id := x.shard, x.client.plane.cfg.Calls, 2*x.lastRequest-1
	portion := func() int {
		s.lock()
		defer s.unlock()
		return x.client.portion()
	}
	require.Equal(t, maxPortion, portion(), "a client with a stream, and no call too many")
	x.refused()
	require.Zero(t, calls.Room())
	require.Equal(t, minPortion, portion())

	s.lock() // nobody else reads the answer
	_, err := x.peer.Write(rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, id,
		hpack.NewEncoder().Append(nil, fieldsOf("grpc-status", "0"))))
	require.NoError(t, err)
	for begin := time.Now(); calls.Room() == 0 && time.Since(begin) < patience; {
		require.Equal(t, minPortion, x.client.portion())
	}
	require.Equal(t, 1, calls.Room())
	s.unlock()

	for most, want := range map[int]int{65: 4160, 1000: 64000, 1 << 20: maxPortion, 0: maxPortion} {
		x.proxy.SetMaxCalls(map[string]int{"main": most})
		require.Equal(t, want, portion(), "max_calls %d", most)
	}
	s.lock()
	x.client.excess -= int64(lately)
	s.unlock()
	require.Equal(t, maxPortion, portion(), "some time later")
}
