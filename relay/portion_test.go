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
	portion := func(last int) int {
		s.lock()
		defer s.unlock()
		return x.client.portion(last)
	}
	require.Equal(t, maxPortion, portion(100), "a client with a stream, and no call too many")
	x.refused()
	require.Zero(t, calls.Room())
	require.Equal(t, minPortion, portion(100))

	s.lock() // nobody else reads the answer
	_, err := x.peer.Write(rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, id,
		hpack.NewEncoder().Append(nil, fieldsOf("grpc-status", "0"))))
	require.NoError(t, err)
	for begin := time.Now(); calls.Room() == 0 && time.Since(begin) < patience; {
		require.Equal(t, minPortion, x.client.portion(0))
	}
	require.Equal(t, 1, calls.Room())
	s.unlock()

	for most, want := range map[int]int{65: 4160, 1000: 64000, 1 << 20: maxPortion, 0: maxPortion} {
		x.proxy.SetMaxCalls(map[string]int{"main": most})
		require.Equal(t, want, portion(0), "max_calls %d", most)
	}
	x.proxy.SetMaxCalls(map[string]int{"main": 1})
	require.Equal(t, minPortion, portion(0))
	require.Equal(t, maxPortion, portion(100), "it makes no calls any more, and sends the DATA of others")
}

// What comes some time after a call was refused is read as ever.
func TestPortion_LaterOn(t *testing.T) {
	x := newFullEngine(t, 10)
	x.refused()
	x.shard.lock()
	defer x.shard.unlock()
	require.Equal(t, minPortion, x.client.portion(100))
	x.client.excess -= int64(lately)
	require.Equal(t, maxPortion, x.client.portion(0))
}
