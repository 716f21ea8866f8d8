package h2

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// step does one thing that was chosen.
func (w *world) step() {
	c := w.choice
	pick := func() *journey {
		if len(w.calls) == 0 {
			w.begin()
		}
		return w.calls[len(w.calls)-1-c.upTo(min(len(w.calls), 40))]
	}
	some := func() int { return [...]int{1, 9, 500, 5000, 20_000, 100_000}[c.upTo(6)] }
	switch c.upTo(20) {
	case 0, 1:
		if w.origin.conn.Streams() < 100 {
			w.begin()
		}
	case 2, 3:
		j := pick()
		j.produce(&j.a, &j.up, some())
	case 4:
		j := pick()
		j.answer()
		j.forward(5000)
	case 5, 6:
		j := pick()
		if j.answered {
			j.produce(j.d, &j.down, some())
		}
	case 7:
		j := pick()
		j.consume(&j.a, &j.down, some())
	case 8:
		j := pick()
		j.consume(j.d, &j.up, some())
	case 9, 10, 11, 12, 13:
		w.nodes[c.upTo(4)].write(some())
	case 14, 15, 16, 17, 18:
		w.nodes[c.upTo(4)].read(some())
	default:
		w.rarely(c, pick)
	}
	w.check()
}

// rarely does what is to happen less often.
func (w *world) rarely(c chooser, pick func() *journey) {
	switch c.upTo(6) {
	case 0:
		if w.injected < 300 {
			w.nodes[c.upTo(4)].inject(uint32(min(w.cfg.StreamWindow, [...]uint32{0, 1, 1000, 30_000, w.cfg.StreamWindow}[c.upTo(5)])))
		}
	case 1:
		j := pick()
		switch c.upTo(4) {
		case 0:
			j.resetBy(0, &j.a)
		case 1:
			j.resetBy(3, j.d)
		default: // the relay resets both
			j.resetBy(1, j.b)
			j.resetBy(2, j.c)
		}
	case 2:
		for _, n := range w.nodes {
			n.conn.Tick(w.now)
		}
	case 3:
		w.nodes[c.upTo(4)].memory.Trim()
	case 4:
		w.nodes[c.upTo(4)].conn.Shrink()
	default:
		pick().cutShort()
	}
}

// check looks at what must always hold.
func (w *world) check() {
	for _, n := range w.nodes {
		n.scan()
	}
	// A stream's queue has at most what its window allowed, in chunks of which the first and the last may be used in part.
	const slack = 2 * 16384
	streams := int64(w.front.conn.Streams() + w.back.conn.Streams())
	bound := streams * (int64(w.cfg.StreamWindow) + slack)
	if short := w.budget.max + 2*int64(w.cfg.ConnWindow) + streams*slack; short < bound {
		bound = short
	}
	inOutput := w.front.conn.counted + w.back.conn.counted
	if held := w.budget.Held() - int64(inOutput); held < 0 || held > bound {
		w.fail("the relay holds %d bytes for %d streams, over %d", held, streams, bound)
	}
}

// finish lets everything move until nothing does, and checks that all calls have come to their end.
func (w *world) finish() {
	for _, n := range w.nodes {
		n.inject(w.cfg.StreamWindow)
	}
	for moved := 1; moved > 0; {
		moved = 0
		for _, n := range w.nodes {
			moved += n.write(1<<20) + n.read(1<<20)
			n.conn.Tick(w.now)
		}
		for _, j := range w.calls {
			moved += j.produce(&j.a, &j.up, 50_000) + j.consume(j.d, &j.up, 1<<30) + j.consume(&j.a, &j.down, 1<<30) + j.forward(50_000)
			if j.answer(); j.answered {
				moved += j.produce(j.d, &j.down, 50_000)
			}
		}
		w.check()
	}
	for _, j := range w.calls {
		if over := j.over; j.reset {
			for i, n := range over {
				if n == 0 && (i == 0 || i == 1 && j.b != nil || i == 2 && j.c != nil || i == 3 && j.d != nil) {
					w.fail("%s: it was reset, and has not ended at %s", j, w.nodes[i].name)
				}
			}
		} else if !j.up.ended || !j.down.ended || !j.headed || over != [4]int{1, 1, 1, 1} {
			w.fail("it has stalled: %s", j)
		}
	}
	for _, n := range w.nodes {
		if n.conn.Streams() != 0 || len(n.conn.Output()) != 0 || n.memory.budget.Held() != 0 {
			w.fail("%s is left with %d streams, %d bytes of output and %d bytes of queues", n.name, n.conn.Streams(), len(n.conn.Output()), n.memory.budget.Held())
		}
	}
}

// dice choose at random.
type dice struct {
	*rand.Rand
	left int
}

func (d *dice) upTo(n int) int { return d.IntN(n) }
func (d *dice) ended() bool    { d.left--; return d.left < 0 }

// worlds are the kinds of world that the model is run in.
var worlds = []struct {
	name   string
	cfg    Config
	budget int64
}{
	{"default", Config{}, 64 << 20},
	{"small windows", Config{StreamWindow: 65535, ConnWindow: 65535}, 64 << 20},
	{"small socket buffers", Config{StreamWindow: 65535, ConnWindow: 200_000, SendLimit: 1000}, 64 << 20},
	{"tiny budget", Config{StreamWindow: 100_000, ConnWindow: 150_000}, 40_000},
}

func (w *world) run() {
	for !w.choice.ended() {
		w.step()
	}
	w.finish()
}

// Bytes go through a relay complete and in order, no window is exceeded, nothing stalls, and memory is bounded and comes back.
func TestModel_Relay(t *testing.T) {
	t.Parallel()
	seeds := []uint64{1, 2, 3, 4, 5, 6, 7, 8}
	for range 2 {
		seeds = append(seeds, rand.Uint64())
	}
	for _, x := range worlds {
		for _, seed := range seeds {
			t.Run(fmt.Sprintf("%s/%d", x.name, seed), func(t *testing.T) {
				t.Parallel()
				newWorld(t, x.cfg, x.budget, &dice{rand.New(rand.NewPCG(seed, 0)), 5000}).run()
			})
		}
	}
}

// A stream that nobody reads holds up no other of its connection.
func TestModel_SlowReaderStallsNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Config{}, 64<<20, &dice{rand.New(rand.NewPCG(1, 1)), 0})
	for range 10 {
		w.open(cargo{size: 1 << 20, trailers: true}, cargo{size: 1 << 20, trailers: true})
	}
	stuck := w.calls[:5]
	for moved := 1; moved > 0; {
		moved = 0
		for _, n := range w.nodes {
			moved += n.write(1<<20) + n.read(1<<20)
		}
		for i, j := range w.calls {
			moved += j.produce(&j.a, &j.up, 50_000) + j.forward(50_000)
			if j.answer(); j.answered {
				moved += j.produce(j.d, &j.down, 50_000)
			}
			if i >= len(stuck) {
				moved += j.consume(j.d, &j.up, 1<<30) + j.consume(&j.a, &j.down, 1<<30)
			}
		}
		w.check()
	}
	for i, j := range w.calls {
		require.Equal(t, i >= len(stuck), j.up.ended, "%s", j)
		require.Equal(t, i >= len(stuck), j.down.ended, "%s", j)
	}
	require.NotZero(t, w.budget.Held())
	w.finish()
}
