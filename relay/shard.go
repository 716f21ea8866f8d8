package relay

import (
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/workers"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/relay/h2"
	"github.com/framegate/framegate/relay/h2/hpack"
)

// shard is a part of the relay that one goroutine at a time works on: connections of clients, connections to endpoints, and the
// calls between them. A call never leaves its shard, so no two shards' locks are ever held together. The pool's locks are taken
// with mu held, and not the other way round.
type shard struct {
	wg     sync.WaitGroup // goroutines of its sockets
	groups Groups         // connections to endpoints
	alone  bool           // it is the only one, as with one processor: a goroutine that yields wakes no other processor
	beside []*shard       // others, of which one or more have connections of each policy that this one has none of

	mu        sync.Mutex // guards everything below, and everything of its sockets, connections and calls; see lock
	now       int64      // nanoseconds since began, set by lock
	clockAt   time.Time  // of clock
	clockOf   int64      // now when clockAt was set
	zero      time.Time  // now's zero by the wall clock of the last tick
	budget    *h2.Budget // of all shards
	memory    *h2.Memory
	fields    *hpack.Interner
	dirty     []*socket // that have something to send
	flushing  bool      // flushSoon's goroutine runs
	sockets   map[*socket]struct{}
	endpoints endpoints
	active    *call                        // under way, linked by next and prev
	short     int                          // ticks in which memory was short, up to now
	handled   map[*endpointStream]struct{} // open
	free      *call                        // not in use, linked by next
	spare     int                          // how many are free
	record    handler.Record               // see recordOf
	timers    timers
	input     []byte         // for reading from a socket
	request   request        // see Plane.requestOf
	answer    answer         // see answerOf
	scratch   []*hpack.Field // for the fields of a block that is being sent
	local     localErrors
	early     []*call // whose whole answer was sent before the end of the request
}

// began is when the clock of the shards began.
var began = time.Now()

// inputLen is the length of shard.input.
const inputLen = 256 << 10

// inputStart is where in shard.input what is read begins: behind room for the beginning of a frame, and at a whole cache line, because
// the kernel copies to other places at less than half the speed.
const inputStart = (h2.MaxPartial + 63) &^ 63

// The bounds of a shard's shared header fields.
const (
	maxFields     = 8192
	maxFieldValue = 512
)

func newShard(budget *h2.Budget) *shard {
	s := &shard{input: make([]byte, inputLen), budget: budget, memory: h2.NewMemory(budget), fields: hpack.NewInterner(maxFields, maxFieldValue), sockets: map[*socket]struct{}{}, handled: map[*endpointStream]struct{}{},
		local: localErrors{}}
	s.setZero()
	s.timers.init(s)
	return s
}

// groupOf returns the connections for backends with a policy: the shard's own, or else those of another shard.
func (s *shard) groupOf(p *policy.Policy) *pool.Group {
	if g := s.groups.Of(p); g != nil {
		return g
	}
	for _, other := range s.beside {
		if g := other.groups.Of(p); g != nil {
			return g
		}
	}
	panic("relay: no shard has connections of a policy")
}

// tickEvery is how often a shard looks for what is late or idle.
const tickEvery = time.Second

// idleAfter is how long a connection is silent before its buffers are given back, and for how long a shard keeps memory that nothing
// uses.
const idleAfter = 5 * time.Second

// watch looks for what is late until over is closed.
func (s *shard) watch(over <-chan struct{}) {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	trimmed := int64(0)
	for {
		select {
		case <-over:
			return
		case <-ticker.C:
		}
		s.lock()
		for k := range s.sockets {
			k.h2.Tick(s.now)
			k.owner.tick(s.now)
			k.giveUp(s.now)
			if s.now-k.h2.Heard() > int64(idleAfter) {
				k.h2.Shrink()
			}
		}
		s.relieve(s.budget)
		s.setZero()
		if s.now-trimmed > int64(idleAfter) {
			trimmed = s.now
			s.memory.Trim()
		}
		s.unlock()
	}
}

// close ends all connections and waits for their goroutines.
func (s *shard) close() {
	s.lock()
	for k := range s.sockets {
		k.kill()
	}
	s.unlock()
	s.wg.Wait()
}

// lock locks mu and sets the time.
func (s *shard) lock() {
	s.mu.Lock()
	s.tick()
}

// tick sets the time. mu is held.
func (s *shard) tick() { s.now = int64(time.Since(began)) }

// clock returns the time that tick has set.
func (s *shard) clock() time.Time {
	if s.clockOf != s.now {
		s.clockOf, s.clockAt = s.now, began.Add(time.Duration(s.now))
	}
	return s.clockAt
}

// setZero sets the time of now's zero by the wall clock, which may have been set since the start.
func (s *shard) setZero() {
	t := time.Now()
	s.zero = t.Add(-t.Sub(began))
}

// unlock writes what there is to write, and unlocks mu.
func (s *shard) unlock() {
	s.timers.fire(s.now)
	s.flush()
	s.mu.Unlock()
}

// unlockBehind is unlock for the goroutine of a socket that was read: others that are ready have their turn, and one write is for what
// all of them have read.
func (s *shard) unlockBehind() {
	s.timers.fire(s.now)
	s.mu.Unlock()
	runtime.Gosched()
	s.mu.Lock()
	s.flush()
	s.mu.Unlock()
}

// unlockSoon is unlock for the goroutines of handled calls, of which many may run at a time, each with little to write: one write
// is for all that are ready to run.
func (s *shard) unlockSoon() {
	s.flushSoon()
	s.mu.Unlock()
}

// soonBytes is how much may be ready for a socket before it is written at once: a connection with much to write is taken for one whose
// peer does not read. soonSockets is how many sockets may have something to send.
const (
	soonBytes   = 64 << 10
	soonSockets = 256
)

// hasMuch reports whether there is so much to write that it does not wait for more.
func (s *shard) hasMuch() bool {
	return len(s.dirty) > soonSockets || slices.ContainsFunc(s.dirty, func(k *socket) bool { return k.h2.Unsent() > soonBytes })
}

// flushSoon sees that what there is to write is written as soon as the goroutines that are ready to run have run, or at once if it is
// much.
func (s *shard) flushSoon() {
	switch {
	case s.hasMuch():
		s.flush()
		return
	case len(s.dirty) == 0 || s.flushing:
		return
	}
	s.flushing = true
	workers.Go(&s.wg, func() {
		runtime.Gosched()
		s.lock()
		defer s.unlock()
		s.flushing = false
	})
}

// flush writes what connections have to send. Writing may make others have something to send.
func (s *shard) flush() {
	for i := 0; ; i++ {
		if s.leaveEarly(); i == len(s.dirty) {
			break
		}
		k := s.dirty[i]
		k.dirty = false
		k.flush()
	}
	clear(s.dirty)
	s.dirty = s.dirty[:0]
}

// leaveEarly ends the calls that were answered before their requests have ended. One of them may have ended since, with the rest of what
// was read, and be in use again for another call, which may have been answered early as well.
func (s *shard) leaveEarly() {
	for _, c := range s.early {
		if c.isSent() {
			c.leave()
		}
	}
	clear(s.early)
	s.early = s.early[:0]
}

// mark puts a socket among those that have something to send.
func (s *shard) mark(k *socket) {
	if !k.dirty {
		k.dirty = true
		s.dirty = append(s.dirty, k)
	}
}
