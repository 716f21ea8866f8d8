// Package budget bounds the memory that messages take which are decoded or held whole: one Budget for the process.
//
// Enter at Share.Take; then queue.go (who waits, in which order, and why nobody waits for ever) and stall.go (those who
// hold much and go on too slowly while others wait).
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

	// ErrNever says that a message takes more than the whole budget. To make the call again does not help.
	ErrNever = errors.New("budget: more than all of it")

	// ErrYield says that a share that can begin again has to: it gives all back that its message takes beyond the bytes that
	// came, and calls Reserve.
	ErrYield = errors.New("budget: others are before")

	// ErrEnded says that the call has ended, so that nobody waits for what would be made of its messages. It is wrapped
	// together with why.
	ErrEnded = errors.New("budget: the call has ended")
)

const (
	// MinBytes is the least that a Budget has.
	MinBytes = 16 << 20

	// smallShare is what a Share may have of the part of the budget for small messages, which is one smallPart-th of all.
	// It has no queue, so that small messages pass large ones that wait: only work is done within it, which ends soon.
	smallShare = 4 << 20
	smallPart  = 8

	// keptPart is the part of that for small messages that may go to what is kept without need, see Keep.
	keptPart = 2

	// maxWait bounds the wait of a call without a deadline.
	maxWait = 30 * time.Second
)

// Budget is what all calls of a process may hold together. It is safe for concurrent use.
type Budget struct {
	bytes, max, smallMax, keptMax int64 // of all, for large, for small and for what is kept; set once
	maxWait                       time.Duration
	stall                         stallConfig

	small   atomic.Int64 // in use for small
	kept    atomic.Int64 // of that, by what is kept
	refused atomic.Int64

	mu       sync.Mutex // guards the fields below, and what Call and Share say is guarded by it
	used     int64      // of max
	stuck    int64      // of used, by calls that wait
	ticket   uint64     // the last one given
	queue    []*waiter  // by ticket: the first is the next
	holders  *Call      // calls that hold some of used
	watching bool       // a look at the holders is due
}

// New returns a Budget of so many bytes, MinBytes at least.
func New(bytes int64) *Budget {
	bytes = max(bytes, MinBytes)
	small := bytes / smallPart
	return &Budget{bytes: bytes, max: bytes - small, smallMax: small, keptMax: small / keptPart, maxWait: maxWait, stall: defaultStall}
}

// Stats is the state of a Budget.
type Stats struct {
	Bytes, Used int64 // that there are, and that are in use
	Waiting     int   // messages that wait for room
	Refused     int64 // that waited too long or were ended to make room, since the start
}

// Stats returns the state of the budget.
func (b *Budget) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Stats{Bytes: b.bytes, Used: b.used + b.small.Load(), Waiting: len(b.queue), Refused: b.refused.Load()}
}

// Owner is who a Call belongs to.
type Owner interface {
	// Evict ends the call with ErrOver, since it holds what others wait for and goes on too slowly. It must not take or
	// give anything before it returns.
	Evict()
}

// Call is what one call holds, in both directions. Its zero value is not usable; see Open.
type Call struct {
	budget *Budget // nil without a bound
	owner  Owner
	ctx    context.Context

	moved atomic.Int64 // bytes that its peers sent or took
	busy  atomic.Int32 // directions in which framegate is at work

	// Guarded by the budget's mu:
	held       int64  // of used
	waiting    int    // of its shares
	ticket     uint64 // of the first bytes that it holds or waits for
	evicted    bool
	prev, next *Call // of holders
	seen       sight
}

// Open makes c ready for a call that ends with ctx; b may be nil for no bound. c must not be copied afterwards.
func (c *Call) Open(ctx context.Context, b *Budget, owner Owner) {
	c.budget, c.owner, c.ctx = b, owner, ctx
}

func (c *Call) err() error {
	if err := c.ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrEnded, err)
	}
	return nil
}

// Begin says that framegate is at work for the call, so that it is not its peers that hold it up. Each Begin wants an End.
func (c *Call) Begin() { c.busy.Add(1) }

// End is the end of what Begin began.
func (c *Call) End() { c.busy.Add(-1) }

// Share is what one direction of a call holds. It is used by one goroutine at a time. A nil Share and the zero Share have no
// bound.
type Share struct {
	call  *Call
	small int64 // of the part for small messages
	held  int64 // of the rest; written with the budget's mu held

	// See Reserve; read with the budget's mu held while the share waits.
	mayYield bool
	yielded  int64 // what it held and wanted when it had to yield
	reserved bool
	credit   int64 // of what it holds: reserved and not taken yet
}

// Of makes s a share of c, which is open.
func (s *Share) Of(c *Call) { s.call = c }

func (s *Share) bounded() bool { return s != nil && s.call != nil && s.call.budget != nil }

// Err returns an ErrEnded when the call has ended, or nil.
func (s *Share) Err() error {
	if s == nil || s.call == nil {
		return nil
	}
	return s.call.err()
}

// Take takes n bytes before their memory is, for as long as framegate is at work on a message. It waits while others have
// them: in the order in which calls began to hold or wait, until shortly before the deadline of the call, so that there is
// time to say why it ends. The error is ErrOver, ErrNever, ErrYield or an ErrEnded.
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

// TakeLong is Take for what is held for as long as a peer likes: for bytes that come or go.
func (s *Share) TakeLong(n int64) error {
	if err := s.Err(); err != nil || n <= 0 || !s.bounded() {
		return err
	}
	return s.call.budget.take(s, n)
}

// KeepLong gives everything back but n bytes, which are held for as long as a peer likes.
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

// Give gives n bytes back that were taken.
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

// Free gives everything back, also what is reserved.
func (s *Share) Free() {
	_ = s.KeepLong(0) // takes nothing
}

// Held returns how many bytes s has, with those that are reserved.
func (s *Share) Held() int64 {
	if s == nil {
		return 0
	}
	return s.small + s.held
}

// Moved says that a peer has sent or taken n bytes of what is held.
func (s *Share) Moved(n int) {
	if s != nil && s.held > 0 {
		s.call.moved.Add(int64(n))
	}
}
