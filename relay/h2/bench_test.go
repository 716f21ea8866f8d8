package h2

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/relay/h2/hpack"
)

// bench is a relay between a client's bytes and a server's bytes, which another pair of Conns makes and takes. The bytes of the
// four go to and fro in memory.
type bench struct {
	origin, front, back, target *Conn
	a                           Stream   // the origin's
	b, c, d                     Stream   // the relay's, and the target's
	trip                        bool     // the target answers
	done                        bool     // the origin has its answer
	request, answer, trailers   []*field // of each call
	body                        []byte
	scratch                     []byte
}

func newBench(tb testing.TB) *bench {
	cfg := Config{}.WithDefaults()
	memory, fields := NewMemory(NewBudget(64<<20)), hpack.NewInterner(1024, 512)
	x := &bench{
		request: fieldList(":method=POST", ":scheme=http", ":path=/package.Service/Method", ":authority=service.example:8080", "content-type=application/grpc",
			"user-agent=grpc-go/1.85.0", "te=trailers", "grpc-timeout=1S"),
		answer:   fieldList(":status=200", "content-type=application/grpc"),
		trailers: fieldList("grpc-status=0", "grpc-message="),
		body:     make([]byte, 16384),
	}
	consume := func(s *Stream, p []byte, _ bool) { s.Consumed(len(p)) }
	x.origin = NewClient(&cfg, &hooks{data: consume, head: func(*Stream, *Head) {}, done: func(*Stream) { x.done = true }}, memory, fields, 0)
	x.front = NewServer(&cfg, &hooks{
		opened: func() *Stream { return &x.b },
		head:   func(_ *Stream, h *Head) { x.back.Open(&x.c, h.Fields, h.End) },
		data:   func(s *Stream, p []byte, end bool) { s.Consumed(x.c.WriteData(p, end)) },
		sent:   func(_ *Stream, n int) { x.c.Consumed(n) },
	}, memory, fields, 0)
	x.back = NewClient(&cfg, &hooks{
		head: func(_ *Stream, h *Head) {
			if h.Trailer {
				x.b.WriteTrailers(h.Fields)
			} else {
				x.b.WriteHeaders(h.Fields, h.End)
			}
		},
		data: func(s *Stream, p []byte, end bool) { s.Consumed(x.b.WriteData(p, end)) },
		sent: func(_ *Stream, n int) { x.b.Consumed(n) },
	}, memory, fields, 0)
	x.target = NewServer(&cfg, &hooks{
		opened: func() *Stream { return &x.d },
		head: func(s *Stream, h *Head) {
			if !x.trip {
				s.WriteHeaders(x.answer, false)
			}
		},
		data: func(s *Stream, p []byte, end bool) {
			s.Consumed(len(p))
			if end && x.trip {
				s.WriteHeaders(x.answer, false)
				s.WriteData(p, false)
				s.WriteTrailers(x.trailers)
			}
		},
	}, memory, fields, 0)
	x.move()
	require.True(tb, x.origin.Settled() && x.front.Settled() && x.back.Settled() && x.target.Settled())
	return x
}

// move moves bytes until there are none.
func (x *bench) move() {
	for moved := true; moved; {
		moved = false
		for _, l := range [...][2]*Conn{{x.origin, x.front}, {x.back, x.target}, {x.target, x.back}, {x.front, x.origin}} {
			for out := l[0].Output(); len(out) > 0; out = l[0].Output() {
				x.scratch = append(x.scratch[:0], out...)
				l[0].Wrote(len(out))
				l[0].Flushed()
				l[1].Receive(x.scratch, 0)
				moved = true
			}
		}
	}
}

// unary makes a call with a message each way.
func (x *bench) unary(n int) {
	x.trip, x.done = true, false
	x.origin.Open(&x.a, x.request, false)
	x.a.WriteData(x.body[:n], true)
	x.move()
}

// stream opens a call for DATA.
func (x *bench) stream() {
	x.trip = false
	x.origin.Open(&x.a, x.request, false)
	x.move()
}

// What a call allocates is its owner's affair alone: header blocks, DATA in both directions and the end of a stream allocate
// nothing once a connection has the memory that it needs. The tests of this file count, so they are not parallel.
func TestAllocations(t *testing.T) {
	x := newBench(t)
	for range 100 {
		x.unary(100)
		require.True(t, x.done)
	}
	require.Zero(t, testing.AllocsPerRun(1000, func() { x.unary(100) }), "a unary call")
	require.Nil(t, x.front.Failure())

	x.stream()
	frame := func() {
		x.a.WriteData(x.body, false)
		x.d.WriteData(x.body, false)
		x.move()
	}
	frame()
	require.Zero(t, testing.AllocsPerRun(1000, frame), "a DATA frame each way")

	queued := func() { // through a queue
		x.front.sendWindow -= 1 << 30
		x.d.WriteData(x.body, false)
		x.move()
		x.front.sendWindow += 1 << 30
		x.front.sendReady()
		x.move()
	}
	queued()
	require.Zero(t, testing.AllocsPerRun(1000, queued), "a DATA frame that waits")
	require.Zero(t, x.front.memory.budget.Held())
	x.a.Reset(0)
}

// One relayed unary call with 100 bytes each way: what the four ends of two connections cost together.
func BenchmarkRelay_Unary(b *testing.B) {
	x := newBench(b)
	b.ReportAllocs()
	for b.Loop() {
		if x.unary(100); !x.done {
			b.Fatal("no answer")
		}
		if x.origin.IDsLeft() == 0 {
			x = newBench(b)
		}
	}
}

// One DATA frame of 16 KiB, received by the relay and sent on.
func BenchmarkRelay_Data(b *testing.B) {
	x := newBench(b)
	x.stream()
	b.ReportAllocs()
	b.SetBytes(int64(len(x.body)))
	for b.Loop() {
		x.a.WriteData(x.body, false)
		x.move()
	}
}

// HEADERS, DATA and the end of a call as a server alone receives and answers them.
func BenchmarkServer_Call(b *testing.B) {
	p := newServerPeer(b, Config{})
	p.conn.sendWindow = 1 << 40
	s := &Stream{}
	var end func(s *Stream)
	p.conn.events = &hooks{
		opened: func() *Stream { return s },
		head:   func(*Stream, *Head) {},
		data: func(s *Stream, p []byte, _ bool) {
			s.Consumed(len(p))
			end(s)
		},
	}
	answer, trailers := fieldList(":status=200", "content-type=application/grpc"), fieldList("grpc-status=0")
	end = func(s *Stream) {
		s.WriteHeaders(answer, false)
		s.WriteData([]byte("hello"), false)
		s.WriteTrailers(trailers)
	}
	call := cat(request(0, 1, "/package.Service/Method", "te=trailers", "content-type=application/grpc"), data(flagEndStream, 1, "hello"))
	second := len(call) - frameHeaderLen - len("hello")
	id := uint32(1)
	b.ReportAllocs()
	for b.Loop() {
		binary.BigEndian.PutUint32(call[5:], id)
		binary.BigEndian.PutUint32(call[second+5:], id)
		id += 2
		p.conn.Receive(call, 0)
		p.conn.Wrote(len(p.conn.Output()))
		p.conn.Flushed()
	}
	require.Nil(b, p.conn.Failure())
}
