package relay

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/handler/local"
)

// A call that has failed within a message, which its client has not read, has ended for all but the client: it is reported at once, as
// what it was, and not again, whatever the client does then.
func TestLinger_HasEndedForAllButTheClient(t *testing.T) {
	credit := []byte{0, 1, 0, 0}
	for name, client := range map[string]func(id uint32) []byte{
		"client resets it": func(id uint32) []byte {
			return rawFrame(http2.FrameRSTStream, 0, id, []byte{0, 0, 0, byte(http2.ErrCodeCancel)})
		},
		"client reads on": func(id uint32) []byte { return rawFrame(http2.FrameWindowUpdate, 0, id, credit) },
	} {
		t.Run(name, func(t *testing.T) {
			rec := make(handlertest.Ends, 100)
			x := newEngine(t, 1, 100, rec)
			x.open()
			id := 2*x.lastRequest - 1
			for range 2 {
				for part := range slices.Chunk(message(0, 40<<10-5), 16384) {
					x.receive(x.endpoint.socket, rawFrame(http2.FrameData, 0, id, part))
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
			x.receive(x.client.socket, client(id), rawFrame(http2.FrameWindowUpdate, 0, 0, credit))
			if x.client.h2.Streams() > 0 { // the client has not ended its request
				x.receive(x.client.socket, rawFrame(http2.FrameData, http2.FlagDataEndStream, id, nil))
			}
			require.Zero(t, x.client.h2.Streams())
			require.Nil(t, x.shard.active)
			require.Empty(t, rec)
		})
	}
}
