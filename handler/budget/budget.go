// Package budget bounds the memory of the messages that are decoded or held whole. A process has one Budget.
//
// Enter at Share.Take; then queue.go (in which order calls wait for memory, and why none waits for ever), reserve.go (how a
// share takes in one step what it will need), stall.go (ends calls that hold memory and do not go on while others wait),
// keep.go (memory that a call can do without) and memory.go (the default size).
package budget

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// ErrOver says that the budget had no room for as long as the call could wait, or that the call was ended to make
	// room for another. The call ends with RESOURCE_EXHAUSTED and may be made again.
	ErrOver = errors.New("budget: no room")

	// ErrNever says that a message takes more than the whole budget. The call ends with RESOURCE_EXHAUSTED, and making it
	// again does not help.
	ErrNever = errors.New("budget: more than all of it")

	// ErrYield says that a share for which MayYield was set must make room for other calls, and begin its message again: it
	// gives back all that the message takes beyond the bytes that were received, and calls Reserve.
	ErrYield = errors.New("budget: others are before")

	// ErrEnded says that the call has ended, so that its messages need not be worked on. It is wrapped together with the
	// cause.
	ErrEnded = errors.New("budget: the call has ended")
)

const (
	// MinBytes is the smallest size of a Budget.
	MinBytes = 16 << 20

	// One smallPart-th of a Budget is the part for small messages, of which a Share may have up to smallShare bytes. That part
	// has no queue, so that small messages do not wait behind large ones. It is held only while framegate works on a message,
	// which takes a short time, never while a peer sends or receives.
	smallShare = 4 << 20
	smallPart  = 8

	// One keptPart-th of the part for small messages is the bound of what all Keeps hold together.
	keptPart = 2

	// maxWait bounds the wait of a call without a deadline.
	maxWait = 30 * time.Second
)

// Budget bounds what all calls of a process hold together. It has a part for small messages, without a queue, and a part for
// large ones, for which calls wait in a queue. It is safe for concurrent use.
type Budget struct {
	bytes, max, smallMax, keptMax int64 // all bytes; those of the large part, of the small part, and of the latter for Keeps; set once
	maxWait                       time.Duration
	stall                         stallConfig

	small   atomic.Int64 // in use of smallMax
	kept    atomic.Int64 // in use of keptMax; small counts it too
	refused atomic.Int64

	mu       sync.Mutex // guards the fields below, and the fields of Call and Share that say so
	used     int64      // in use of max
	stuck    int64      // the part of used that is held by calls that wait
	ticket   uint64     // the last one given to a call; see Call.ticket
	queue    []*waiter  // in the order of tickets; the first is served first
	holders  *Call      // list of the calls that hold some of used
	checkDue bool       // a timer will call checkStalls
}

// New returns a Budget of bytes, but at least MinBytes.
func New(bytes int64) *Budget {
	bytes = max(bytes, MinBytes)
	small := bytes / smallPart
	return &Budget{bytes: bytes, max: bytes - small, smallMax: small, keptMax: small / keptPart, maxWait: maxWait, stall: defaultStall}
}

// Stats is the state of a Budget.
type Stats struct {
	Bytes, Used int64 // the size, and how much of it is in use
	Waiting     int   // messages that wait for room
	Refused     int64 // messages that waited too long or whose call was ended to make room, since the start
}

// Stats returns the state of the budget.
func (b *Budget) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Stats{Bytes: b.bytes, Used: b.used + b.small.Load(), Waiting: len(b.queue), Refused: b.refused.Load()}
}

// Owner is the owner of a Call: it can end the call.
type Owner interface {
	// Evict ends the call with ErrOver, because it holds what other calls wait for and its peers go on too slowly. It must not
	// call the budget before it returns.
	Evict()
}

// Call is what one call holds of a Budget, in both directions. The zero Call must be opened before use; see Open.
type Call struct {
	budget *Budget // nil without a bound
	owner  Owner
	ctx    context.Context

	moved atomic.Int64 // bytes of messages that the peers have sent or received
	busy  atomic.Int32 // directions in which framegate works on a message

	// Guarded by the budget's mu:
	held       int64  // of Budget.used, by all shares of the call
	waiting    int    // shares that wait
	ticket     uint64 // the call's place in the queue, which it keeps while it holds or waits for anything
	evicted    bool   // it gets no more: every Take fails with ErrOver
	prev, next *Call  // in Budget.holders
	seen       sight
}

// Open prepares c for a call that ends with ctx; b may be nil for no bound. c must not be copied afterwards.
func (c *Call) Open(ctx context.Context, b *Budget, owner Owner) {
	c.budget, c.owner, c.ctx = b, owner, ctx
}

func (c *Call) err() error {
	if err := c.ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrEnded, err)
	}
	return nil
}

// Begin says that framegate works on a message of the call, so that its peers are not to blame if it does not go on. For
// each Begin the caller calls End once.
func (c *Call) Begin() { c.busy.Add(1) }

// End says that the work of one Begin has ended.
func (c *Call) End() { c.busy.Add(-1) }

// Share is what one direction of a call holds. It is used by one goroutine at a time. A nil Share and the zero Share have no
// bound.
type Share struct {
	call  *Call
	small int64 // bytes of the part for small messages
	held  int64 // bytes of the part for large messages; written with the budget's mu held

	// See Reserve. The budget reads these fields, with its mu held, while the share waits.
	mayYield bool
	yielded  int64 // how many bytes the share held and asked for when it had to yield
	reserved bool  // Take and Give count within credit
	credit   int64 // the bytes of small and held that are reserved and not taken yet
}

// Of makes s a share of c, which must be open.
func (s *Share) Of(c *Call) { s.call = c }

// bounded reports whether the share takes from a budget.
func (s *Share) bounded() bool { return s != nil && s.call != nil && s.call.budget != nil }

// Err returns an ErrEnded when the call has ended, or nil.
func (s *Share) Err() error {
	if s == nil || s.call == nil {
		return nil
	}
	return s.call.err()
}

// Take takes n bytes of the budget. The caller calls it before it allocates the memory, and holds the bytes only while
// framegate works on a message. Take blocks while there is no room: calls are served in the order in which they began to
// hold or wait for bytes. It gives up shortly before the deadline of the call, so that there is time to send the error. The
// error is ErrOver, ErrNever, ErrYield or an ErrEnded.
func (s *Share) Take(n int64) error {
	if err := s.Err(); err != nil || n <= 0 || !s.bounded() {
		return err
	}
	if beyond := n - s.credit; beyond > 0 {
		if err := s.take(beyond); err != nil {
			return err
		}
		n -= beyond
	}
	s.credit -= n
	return nil
}

// TakeLong is Take for bytes that are held while a peer sends or receives them, for as long as the peer likes. It takes
// nothing of the part for small messages and of what is reserved.
func (s *Share) TakeLong(n int64) error {
	if err := s.Err(); err != nil || n <= 0 || !s.bounded() {
		return err
	}
	return s.call.budget.take(s, n)
}

// KeepLong gives back everything, also what is reserved, but n bytes, which are held for as long as a peer likes; see
// TakeLong.
func (s *Share) KeepLong(n int64) error {
	if s == nil {
		return nil
	}
	if s.held == 0 { // as with most messages
		s.reserved, s.credit = false, 0
	}
	s.Release()
	if small := s.small; small > 0 {
		s.small = 0
		s.call.budget.small.Add(-small)
	}
	if n > s.held {
		return s.TakeLong(n - s.held)
	}
	s.Give(s.held - n)
	return nil
}

func (s *Share) take(n int64) error {
	b := s.call.budget
	if s.held == 0 && s.small+n <= smallShare {
		if b.small.Add(n) <= b.smallMax {
			s.small += n
			return nil
		}
		b.small.Add(-n)
	}
	return b.take(s, n)
}

// Give gives back n bytes that were taken.
func (s *Share) Give(n int64) {
	if n <= 0 || !s.bounded() {
		return
	}
	if s.reserved {
		s.credit += n
		return
	}
	b := s.call.budget
	if large := min(n, s.held); large > 0 {
		b.give(s, large)
		n -= large
	}
	if small := min(n, s.small); small > 0 {
		s.small -= small
		b.small.Add(-small)
	}
}

// Free gives back everything, also what is reserved.
func (s *Share) Free() {
	_ = s.KeepLong(0) // takes nothing
}

// Held returns how many bytes s holds, including those that are reserved.
func (s *Share) Held() int64 {
	if s == nil {
		return 0
	}
	return s.small + s.held
}

// Moved says that a peer has sent or received n bytes of a message that s holds, so that the call is not seen as stalled.
func (s *Share) Moved(n int) {
	if s != nil && s.held > 0 {
		s.call.moved.Add(int64(n))
	}
}
