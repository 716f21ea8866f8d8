package relay

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/relay/h2"
	"github.com/framegate/framegate/relay/h2/hpack"
	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/routetest"
)

// engine is a relay whose sockets are never written to: the bytes of a client and of an endpoint go to it and from it in memory.
type engine struct {
	tb       testing.TB
	shard    *shard
	client   *clientConn
	endpoint *upstreamConn
	peer     net.Conn // the endpoint's end of it
	proxy    *handler.Proxy
	batch    int

	requests, answers     []byte
	requestIDs, answerIDs []int // where the frames are whose stream identifiers go up from batch to batch
	lastRequest           uint32
	exchange              []byte // see open
}

type oneGroup struct{ group *pool.Group }

func (g oneGroup) Of(*policy.Policy) *pool.Group { return g.group }

// newEngine returns an engine for calls in batches of that size, with a request and an answer of size bytes each.
func newEngine(tb testing.TB, batch, size int, observers ...handler.Observer) *engine {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	var peer net.Conn
	accepted := make(chan struct{})
	go func() { // greets, and is silent for ever
		defer close(accepted)
		if peer, _ = ln.Accept(); peer != nil {
			greetClient(peer)
		}
	}()
	tb.Cleanup(func() {
		_ = ln.Close()
		if <-accepted; peer != nil {
			_ = peer.Close()
		}
	})
	x := newEngineTo(tb, ln.Addr().String(), "", observers...)
	x.batch = batch
	x.connect(ln.Addr().String())
	<-accepted
	x.peer = peer
	x.make(size)
	return x
}

// newFullEngine returns an engine whose listener has max_calls.
func newFullEngine(tb testing.TB, batch int) *engine {
	x := newEngine(tb, batch, 100)
	x.open()
	x.proxy.SetMaxCalls(map[string]int{"main": 1})
	return x
}

// greetClient greets as an HTTP/2 server.
func greetClient(nc net.Conn) {
	f := http2.NewFramer(nc, nil)
	_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	_ = f.WriteWindowUpdate(0, 1<<30)
	_ = f.WriteSettingsAck()
}

// newEngineTo returns an engine with a client, and without a connection to the endpoint at that address. keys are further keys of
// its route.
func newEngineTo(tb testing.TB, address, keys string, observers ...handler.Observer) *engine {
	r := resolver.New()
	route := routetest.MustRoute(tb, fmt.Sprintf("{name: all, match: [{method: \"*\"}], mode: frame, backends: [{endpoints: [{address: %q}]}]%s}", address, keys))
	r.Apply("file", []*resolver.Route{{Route: route}})
	log := slog.New(slog.DiscardHandler)
	x := &engine{tb: tb, shard: newShard(h2.NewBudget(256 << 20))}
	x.shard.alone = true
	tb.Cleanup(x.shard.close)
	pl := pool.New(pool.Config{}, dialer{shard: x.shard}, log)
	tb.Cleanup(pl.Close)
	x.shard.groups = oneGroup{pl.Default()}
	proxy := handler.New(handler.Config{
		Router: routerOf{r}, Pool: stream.From(pl.Default()), Log: log, MaxMessageBytes: handler.DefaultMaxMessageBytes, MaxHops: handler.DefaultMaxHops, Observers: observers,
	})
	tb.Cleanup(proxy.Close)
	x.proxy = proxy
	plane := New(Config{Listener: "main", Shards: &Shards{all: []*shard{x.shard}}, Calls: proxy.Relayed("main")})
	ours, theirs, err := socketPair()
	require.NoError(tb, err)
	tb.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	x.client = plane.Conn(ours, nil).(*clientConn)
	x.shard.lock()
	x.client.blocked, x.client.greeting = true, nil
	x.shard.unlock()
	x.receive(x.client.socket, []byte(http2.ClientPreface), rawFrame(http2.FrameSettings, 0, 0, nil), rawFrame(http2.FrameSettings, http2.FlagSettingsAck, 0, nil))
	return x
}

// connect waits for a connection to the endpoint, which is then as the client's.
func (x *engine) connect(address string) {
	group := x.shard.groups.Of(nil)
	group.Try(address)
	require.Eventually(x.tb, func() bool {
		slot, ok := group.Take(address, nil)
		if ok {
			x.endpoint = slot.Conn().(*upstreamConn)
			slot.Release()
		}
		return ok
	}, patience, patience/1000)
	x.shard.lock()
	x.endpoint.blocked = true
	x.shard.unlock()
}

type routerOf struct{ *resolver.Resolver }

func (r routerOf) Resolve(t *cluster.Target, req spec.Request) bool {
	return r.Resolver.Resolve(t, req)
}

func rawFrame(typ http2.FrameType, flags http2.Flags, stream uint32, payload []byte) []byte {
	b := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), byte(typ), byte(flags)}
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

func fieldsOf(pairs ...string) (all []*hpack.Field) {
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, hpack.NewField(pairs[i], pairs[i+1], false))
	}
	return all
}

// make makes the bytes of a batch.
func (x *engine) make(size int) {
	body := message(0, size)
	request := fieldsOf(":method", "POST", ":scheme", "http", ":path", "/echo.Echo/Unary", ":authority", "127.0.0.1:8888",
		"content-type", "application/grpc", "te", "trailers", "user-agent", "grpc-go/1.85.0")
	answer := fieldsOf(":status", "200", "content-type", "application/grpc")
	trailers := fieldsOf("grpc-status", "0", "grpc-message", "")
	up, down := hpack.NewEncoder(), hpack.NewEncoder()
	for range 3 { // the tables know all fields then
		x.lastRequest++
		id := 2*x.lastRequest - 1
		x.receive(x.client.socket, rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, id, up.Append(nil, request)), rawFrame(http2.FrameData, http2.FlagDataEndStream, id, body))
		x.receive(x.endpoint.socket, rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, id, down.Append(nil, answer)), rawFrame(http2.FrameData, 0, id, body),
			rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, id, down.Append(nil, trailers)))
	}
	credit := rawFrame(http2.FrameWindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, uint32(x.batch*len(body))))
	x.requests, x.answers = append(x.requests, credit...), append(x.answers, credit...)
	for range x.batch {
		x.requestIDs = append(x.requestIDs, len(x.requests))
		x.requests = append(x.requests, rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 0, up.Append(nil, request))...)
		x.requestIDs = append(x.requestIDs, len(x.requests))
		x.requests = append(x.requests, rawFrame(http2.FrameData, http2.FlagDataEndStream, 0, body)...)
		x.answerIDs = append(x.answerIDs, len(x.answers))
		x.answers = append(x.answers, rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 0, down.Append(nil, answer))...)
		x.answerIDs = append(x.answerIDs, len(x.answers))
		x.answers = append(x.answers, rawFrame(http2.FrameData, 0, 0, body)...)
		x.answerIDs = append(x.answerIDs, len(x.answers))
		x.answers = append(x.answers, rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 0, down.Append(nil, trailers))...)
	}
}

// receive gives frames to a connection, and takes what all have to send.
func (x *engine) receive(on *socket, frames ...[]byte) {
	s := x.shard
	s.lock()
	for _, f := range frames {
		on.h2.Receive(f, s.now)
	}
	s.unlock()
	s.lock()
	defer s.unlock()
	x.drain(x.client.socket)
	if x.endpoint != nil {
		x.drain(x.endpoint.socket)
	}
}

// drain takes what a connection has to send. The shard's mu is held.
func (x *engine) drain(k *socket) {
	for out := k.h2.Output(); len(out) > 0; out = k.h2.Output() {
		k.h2.Wrote(len(out))
	}
	if why := k.h2.Failure(); why != nil {
		x.tb.Fatal(why)
	}
}

// calls makes a batch of calls.
func (x *engine) calls() {
	x.nextBatch()
	x.receive(x.client.socket, x.requests)
	x.receive(x.endpoint.socket, x.answers)
	if n := x.client.h2.Streams() + x.endpoint.h2.Streams(); n > 0 {
		x.tb.Fatalf("%d streams are left", n)
	}
}

// refused makes a batch of calls that do not reach the endpoint, where one is open.
func (x *engine) refused() {
	x.nextBatch()
	x.receive(x.client.socket, x.requests)
	if n := x.client.h2.Streams() + x.endpoint.h2.Streams(); n > 2 {
		x.tb.Fatalf("%d streams are left", n)
	}
}

// nextBatch puts the next stream identifiers into the bytes of a batch.
func (x *engine) nextBatch() {
	for i := range x.batch {
		id := 2*(x.lastRequest+uint32(i)) + 1
		for _, at := range x.requestIDs[2*i : 2*i+2] {
			binary.BigEndian.PutUint32(x.requests[at+5:], id)
		}
		for _, at := range x.answerIDs[3*i : 3*i+3] {
			binary.BigEndian.PutUint32(x.answers[at+5:], id)
		}
	}
	x.lastRequest += uint32(x.batch)
}

// open begins a call that sends and gets 16 KiB with each data.
func (x *engine) open() {
	x.lastRequest++
	id := 2*x.lastRequest - 1
	x.receive(x.client.socket, rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, id, hpack.NewEncoder().Append(nil, fieldsOf(":method", "POST", ":scheme", "http",
		":path", "/echo.Echo/Chat", ":authority", "127.0.0.1:8888", "content-type", "application/grpc", "te", "trailers"))))
	x.receive(x.endpoint.socket, rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, id, hpack.NewEncoder().Append(nil, fieldsOf(":status", "200", "content-type", "application/grpc"))))
	body := message(0, 16384-5)
	credit := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	x.exchange = append(rawFrame(http2.FrameData, 0, id, body), rawFrame(http2.FrameWindowUpdate, 0, id, credit)...)
	x.exchange = append(x.exchange, rawFrame(http2.FrameWindowUpdate, 0, 0, credit)...)
}

// data sends 16 KiB each way.
func (x *engine) data() {
	x.receive(x.client.socket, x.exchange)
	x.receive(x.endpoint.socket, x.exchange)
}
