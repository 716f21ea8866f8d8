package hostile

import (
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/race"
)

// crowdedAttack makes many clients send much at the same moment. None of them does anything that is forbidden, and what framegate takes
// for reading does not grow with their number.
func crowdedAttack(t *testing.T, w *world) {
	const size = 48 << 10 // within the windows
	clients := race.Choose(300, 50)
	part := frame(http2.FrameData, 0, 1, make([]byte, maxFrame)...)
	burst := slices.Repeat(part, size/maxFrame)
	during := newPart(t)
	defer during.end()
	conns := make([]*net.TCPConn, clients)
	for i := range conns {
		conns[i] = dial(during, w.proxy.Addr)
		require.NoError(t, write(conns[i], append(slices.Clone(greeting), request(1, held(relayed), false)...)))
	}
	w.attack(t, "much from many at once", func(t *testing.T) {
		before := heapBytes()
		const senders = 16
		var sending sync.WaitGroup
		for k := range senders {
			sending.Go(func() {
				for i := k; i < clients; i += senders {
					_ = write(conns[i], burst)
				}
			})
		}
		sending.Wait()
		for _, nc := range conns { // all of it was taken
			p := patient{nc: nc}
			p.wantAlive(t)
		}
		during.end()
		wantHeapBack(t, before, 16<<20) // the shards keep some memory for queues
	})
}
