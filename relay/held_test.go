package relay

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/pool/transport"
	"github.com/framegate/framegate/relay/h2"
	"github.com/framegate/framegate/relay/h2/hpack"
	"github.com/framegate/framegate/resolver/cluster"
)

// heldOf returns what counts as held on a shard.
func heldOf(s *shard) int64 {
	s.lock()
	defer s.unlock()
	return s.budget.Held()
}

// slotless is an owner of which no slot was taken.
type slotless struct{ transport.Owner }

func (slotless) Release() {}

// What an endpoint has sent, and nobody reads any more, counts no longer when its stream is closed.
func TestHeld_EndpointStreamThatIsNotRead(t *testing.T) {
	x := newEngine(t, 1, 100)
	before := heldOf(x.shard)
	st, err := x.endpoint.Open(context.Background(), &transport.Header{Method: "/a.B/C"})
	require.NoError(t, err)
	e := st.(*endpointStream)
	id := e.memory.ID()
	enc := hpack.NewEncoder()
	x.receive(x.endpoint.socket, rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, id, enc.Append(nil, fieldsOf(":status", "200", "content-type", "application/grpc"))),
		rawFrame(http2.FrameData, 0, id, message(0, 10000)),
		rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, id, enc.Append(nil, fieldsOf("grpc-status", "0"))))
	require.Greater(t, heldOf(x.shard), before)
	x.endpoint.pooled = slotless{x.endpoint.pooled}
	e.Close()
	require.Equal(t, before, heldOf(x.shard))
	require.Empty(t, x.shard.handled)
}

// earlyCalls are calls that package handler ends at once, and returns from when it is told to.
type earlyCalls struct {
	Calls
	ended, goOn chan struct{}
}

func (c earlyCalls) Plain(*cluster.Target, string) bool { return false }

func (c earlyCalls) Serve(down stream.Downstream, _ *handler.Begun) {
	down.End(status.New(codes.Internal, "x"), nil)
	close(c.ended)
	<-c.goOn
}

// Nor does what a client sends to a call that has ended, and of which the handler has not returned.
func TestHeld_RequestOfACallThatHasEnded(t *testing.T) {
	x := newEngine(t, 1, 100)
	c := earlyCalls{x.client.plane.cfg.Calls, make(chan struct{}), make(chan struct{})}
	x.client.plane.cfg.Calls = c
	before := heldOf(x.shard)
	x.lastRequest++
	id := 2*x.lastRequest - 1
	x.receive(x.client.socket, rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, id, requestBlock()))
	<-c.ended
	x.receive(x.client.socket, rawFrame(http2.FrameData, 0, id, message(0, 10000)))
	close(c.goOn)
	require.Eventually(t, func() bool {
		x.shard.lock()
		defer x.shard.unlock()
		return x.shard.active == nil
	}, patience, patience/1000)
	x.receive(x.client.socket)
	require.Equal(t, before, heldOf(x.shard))
}

// countingOwner counts how often a connection is said to take no streams any more.
type countingOwner struct {
	transport.Owner
	retired atomic.Int64
}

func (o *countingOwner) Retire() {
	o.retired.Add(1)
	o.Owner.Retire()
}

// A connection that has failed, and whose GOAWAY waits behind what its endpoint does not read, is given no further calls: they would
// go round and round between it and the pool.
func TestWaiting_ConnectionThatHasFailedIsRetired(t *testing.T) {
	x := newEngine(t, 1, 100)
	owner := &countingOwner{Owner: x.endpoint.pooled}
	x.shard.lock()
	x.endpoint.pooled = owner
	for range 90000 {
		x.endpoint.h2.Ping([8]byte{})
	}
	x.endpoint.moved = x.shard.now
	x.endpoint.h2.Tick(x.shard.now)
	require.NotNil(t, x.endpoint.h2.Failure())
	x.shard.unlock()
	require.Positive(t, owner.retired.Load())
	slot, ok := x.shard.groups.Of(nil).Take(x.endpoint.address, nil)
	if ok {
		slot.Release()
	}
	require.False(t, ok && slot.Conn() == x.endpoint, "the pool has no slot there any more")

	// One whose failure is not known yet is retired by whoever gets a slot there.
	y := newEngine(t, 1, 100)
	y.shard.lock()
	owner = &countingOwner{Owner: y.endpoint.pooled}
	y.endpoint.pooled = owner
	y.endpoint.shut = true
	y.shard.unlock()
	y.lastRequest++
	y.shard.lock()
	y.client.h2.Receive(rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 2*y.lastRequest-1, requestBlock()), y.shard.now)
	y.shard.unlock()
	require.EqualValues(t, 1, owner.retired.Load())
}

// A call that waits for a connection with much of its request is ended like others when memory is short.
func TestRelief_CallsThatWaitForAConnection(t *testing.T) {
	e := newSlowEndpoint(t)
	defer e.wake()
	x := newEngineTo(t, e.address, "")
	x.receive(x.client.socket, rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, requestBlock("grpc-timeout", "1H")))
	for range 12 {
		x.receive(x.client.socket, rawFrame(http2.FrameData, 0, 1, message(0, 16000)))
	}
	require.Greater(t, heldOf(x.shard), int64(12*16000))
	short := h2.NewBudget(1 << 20)
	var p h2.Pending
	p.Add(h2.NewMemory(short), make([]byte, 1<<20))
	require.True(t, short.IsShort())
	x.shard.lock()
	for range h2.StuckAsks {
		x.shard.relieve(short)
		require.NotNil(t, x.shard.active, "it may have come just now")
		require.NotNil(t, x.shard.active.waiting)
	}
	x.shard.relieve(short)
	x.shard.unlock()
	require.Zero(t, heldOf(x.shard))
	x.shard.lock()
	defer x.shard.unlock()
	require.Nil(t, x.shard.active, "it has its answer, and the rest of the request is not wanted")
}
