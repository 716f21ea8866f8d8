package mirror

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"golang.org/x/time/rate"

	"github.com/framegate/framegate/resolver/spec"
)

// Mirror is a mirror of a version of a route.
type Mirror struct {
	*state
	doc       *spec.Mirror
	selection *Selection
	registry  *Registry
}

// Dropped says why a copy of a call, or a message of one, was left out.
type Dropped string

// The reasons. Those of calls are counted once for each call that gets no copy, or whose copy ended early.
const (
	DroppedMaxCalls    Dropped = "max_calls"   // of a call: there are as many copies as there may be
	DroppedUnreachable Dropped = "unreachable" // of a call: the mirror's endpoints could not be connected to a moment ago
	DroppedFlooded     Dropped = "flooded"     // of a call: its answer, which nobody compares, is long, and so are those of many others
	DroppedStalled     Dropped = "stalled"     // of a call: many copies wait for the beginning of an answer, and none has begun for a while
	DroppedFull        Dropped = "queue_full"  // of a message: the queue had no room
	DroppedMemory      Dropped = "max_bytes"   // of a message: all queues together had no room
	DroppedTooLong     Dropped = "too_long"    // of a message: it is longer than the queue
	DroppedEnded       Dropped = "ended"       // of a message: the mirror had ended its call
	DroppedFailed      Dropped = "failed"      // of a message: it could not be written or delivered
)

// state is what is known of a mirror, whatever the version of its route. It is safe for concurrent use.
type state struct {
	key
	refs int // versions of the route in force; guarded by the registry's mu

	calls, active, messages, bytes atomic.Int64
	lag                            atomic.Int64           // time.Duration that the message that was sent last had waited
	outlet                         atomic.Pointer[opened] // nil for a mirror with a backend
	outletOf                       outletDocument         // guarded by the registry's mu
	failures                       failures
	stall                          stall
	differences                    differences
	unread                         *rate.Limiter // see unreadPerSecond
	slowed                         atomic.Int32  // copies that wait for it

	mu       sync.Mutex // guards the fields below
	codes    map[codes.Code]int64
	dropped  map[Dropped]int64
	compared map[Result]int64
}

// key names a mirror.
type key struct{ source, route, name string }

// Status is the state of a mirror, for people and metrics.
type Status struct {
	Source, Route, Name, Kind string // Kind is the key of what gets the copies, such as backend

	State   string // StateNew, StateUp or StateDown
	Error   string // why it is down
	Percent float64

	Active   int64 // copies of calls under way
	Calls    int64 // copies of calls that began
	Messages int64 // that were handed over
	Bytes    int64 // of these messages' payloads
	Lag      time.Duration

	Codes    map[codes.Code]int64 // with which copies of calls ended, of a backend
	Dropped  map[Dropped]int64
	Compared map[Result]int64 // nil unless answers are compared

	Waiting      int   // messages that were not delivered yet, of other kinds than backend
	WaitingBytes int64 // of these
}

// The states.
const (
	StateNew  = "new"  // nothing was delivered yet
	StateUp   = "up"   // the last attempt to deliver succeeded
	StateDown = "down" // it failed
)

func (s *state) drop(why Dropped) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped[why]++
}

// Status returns the state of the mirror.
func (m *Mirror) Status() Status {
	st := Status{
		Source: m.source, Route: m.route, Name: m.name, Kind: m.doc.Kind(), Percent: 100 * m.doc.Share(), State: StateNew,
		Active: m.active.Load(), Calls: m.calls.Load(), Messages: m.messages.Load(), Bytes: m.bytes.Load(), Lag: time.Duration(m.lag.Load()),
	}
	m.mu.Lock()
	st.Codes, st.Dropped = maps.Clone(m.codes), maps.Clone(m.dropped)
	if m.doc.Compare != nil {
		st.Compared = maps.Clone(m.compared)
	}
	m.mu.Unlock()
	if m.doc.Backend != nil {
		st.State, st.Error = m.failures.state()
	}
	if o := m.outlet.Load(); o != nil {
		o.status(&st) // adds what its own goroutines have dropped
	}
	return st
}

// failures notes whether a mirror's backend can be connected to. While it cannot, only one copy at a time is made, and not
// before a pause has passed, so that a dead mirror costs calls nothing.
type failures struct {
	until atomic.Int64 // Unix time in nanoseconds until which no copy is made; 0 if the last connection could be made

	mu    sync.Mutex // guards the fields below
	tried bool
	count int // in a row
	why   string
}

// The pause after a failure, and after many in a row.
const (
	minPause = 100 * time.Millisecond
	maxPause = 5 * time.Second
)

// allows reports whether a copy may be made now.
func (f *failures) allows(now time.Time) bool {
	until := f.until.Load()
	if until == 0 {
		return true
	}
	// One call takes the end of the pause for itself, and the others wait for what becomes of it.
	return now.UnixNano() >= until && f.until.CompareAndSwap(until, now.Add(maxPause).UnixNano())
}

func (f *failures) failed(now time.Time, why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tried, f.why = true, why
	f.count++
	f.until.Store(now.Add(min(minPause<<min(f.count-1, 10), maxPause)).UnixNano())
}

func (f *failures) worked() {
	if f.until.Load() == 0 && f.known() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tried, f.count, f.why = true, 0, ""
	f.until.Store(0)
}

func (f *failures) known() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tried
}

func (f *failures) state() (state, why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !f.tried:
		return StateNew, ""
	case f.count > 0:
		return StateDown, f.why
	}
	return StateUp, ""
}

func newState(k key) *state {
	return &state{
		key: k, codes: map[codes.Code]int64{}, dropped: map[Dropped]int64{}, compared: map[Result]int64{},
		unread: rate.NewLimiter(unreadPerSecond, unreadPerSecond/10),
	}
}

// stall notices that a mirror's backend takes calls and answers none. As long as it does, no further copies are made: those that are
// there hold enough memory.
type stall struct {
	unanswered atomic.Int64 // copies with a whole request whose answer has not begun
	answered   atomic.Int64 // Unix time in nanoseconds when an answer began last, or a request was whole while there was none
}

const (
	stalledCalls = 256
	stalledTime  = 250 * time.Millisecond
)

// is reports whether the backend has stalled.
func (s *stall) is(now time.Time) bool {
	n, silence := s.unanswered.Load(), time.Duration(now.UnixNano()-s.answered.Load())
	return n >= stalledCalls && silence > stalledTime || n >= 8*stalledCalls && silence > stalledTime/10
}

// begin counts a copy whose request is whole: it is answered next. Each begin has one end.
func (s *stall) begin(now time.Time) {
	if s.unanswered.Add(1) == 1 {
		s.answered.Store(now.UnixNano())
	}
}

// end says that the answer to a copy has begun, or that the copy has ended without one.
func (s *stall) end() { s.unanswered.Add(-1) }

// alive says that the backend has answered something.
func (s *stall) alive() { s.answered.Store(time.Now().UnixNano()) }
