package relay

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/local"
)

// records is an observer that keeps the records of calls that have ended.
type records chan handler.Record

func (r records) CallStarted(*handler.Record) handler.EndObserver { return r }
func (r records) CallEnded(rec *handler.Record)                   { r <- rec.Values() }

// A call that has failed within a message, which its client has not read, has ended for all but the client: it is reported at once, as
// what it was, and not again, whatever the client does then.
func TestLinger_HasEndedForAllButTheClient(t *testing.T) {
	for name, client := range map[string][]byte{
		"client resets it": rawFrame(http2.FrameRSTStream, 0, 1, []byte{0, 0, 0, byte(http2.ErrCodeCancel)}),
		"client reads on":  rawFrame(http2.FrameWindowUpdate, 0, 1, []byte{0, 1, 0, 0}),
	} {
		t.Run(name, func(t *testing.T) {
			rec := make(records, 100)
			x := newEngine(t, 1, 100, rec)
			id := 2*x.lastRequest + 1
			binary.BigEndian.PutUint32(client[5:], id)
			x.open()
			body := make([]byte, 40<<10)
			binary.BigEndian.PutUint32(body[1:], uint32(len(body)-5))
			for range 2 {
				for rest := body; len(rest) > 0; {
					n := min(len(rest), 16384)
					x.receive(x.endpoint.socket, rawFrame(http2.FrameData, 0, id, rest[:n]))
					rest = rest[n:]
				}
			}
			for len(rec) > 0 { // of the engine's own calls
				<-rec
			}
			x.receive(x.endpoint.socket, rawFrame(http2.FrameRSTStream, 0, id, []byte{0, 0, 0, byte(http2.ErrCodeInternal)}))
			require.Len(t, rec, 1)
			r := <-rec
			require.Equal(t, local.ReasonUpstreamReset, r.Reason)
			require.Less(t, r.Duration, lingerTime)
			require.Equal(t, 1, x.client.h2.Streams(), "it has the rest of the second message to read")
			x.receive(x.client.socket, client, rawFrame(http2.FrameWindowUpdate, 0, 0, []byte{0, 1, 0, 0}))
			if x.client.h2.Streams() > 0 { // the client has not ended its request
				x.receive(x.client.socket, rawFrame(http2.FrameData, http2.FlagDataEndStream, id, nil))
			}
			require.Zero(t, x.client.h2.Streams())
			require.Nil(t, x.shard.active)
			require.Empty(t, rec)
		})
	}
}

// Whoever sets a timer that is set moves it.
func TestTimers_SetMovesTheTimer(t *testing.T) {
	x := newEngine(t, 1, 100)
	s := x.shard
	fired := 0
	k := &timer{fire: func() { fired++ }}
	s.lock()
	defer s.unlock()
	before := s.timers.n
	s.timers.set(k, s.now+int64(time.Hour))
	s.timers.set(k, s.now+2*slotTime)
	require.Equal(t, before+1, s.timers.n)
	s.timers.fire(s.now + 4*slotTime)
	require.Equal(t, 1, fired)
	require.Equal(t, before, s.timers.n)
}
