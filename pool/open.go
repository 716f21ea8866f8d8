package pool

import (
	"context"
	"errors"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
)

// Reasons for which an opening starts again.
var (
	// errEndpointGone: the pool has just forgotten this endpoint, and has, or will make, another.
	errEndpointGone = errors.New("pool: endpoint gone")
	// errOverLimit: the peer has lowered its limit after a slot was taken.
	errOverLimit = errors.New("pool: over the peer's limit")
)

// openAtOnce opens a stream if that takes no waiting and nobody waits already. It returns nil and nil if it does.
func (e *endpoint) openAtOnce(ctx context.Context, hdr *grpc.CallHdr, avoid *Stream) (*Stream, error) {
	if e.waiting.Load() > 0 {
		return nil, nil
	}
	c := e.take(avoid.connection())
	if c == nil {
		return nil, nil
	}
	s, err := c.open(ctx, hdr)
	if err != nil {
		return nil, final(ctx, err)
	}
	return s, nil
}

// final returns the error that ends an Open, or nil if another connection may help.
func final(ctx context.Context, err error) error {
	if ctxErr := ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	var header *HeaderError
	if errors.As(err, &header) {
		return header
	}
	return nil
}

// opening is an Open that may have to wait. One goroutine owns it.
type opening struct {
	waiter
	avoid *conn                        // nil if there was no earlier try
	ask   func() (end func(), ok bool) // nil when it was called
	done  func()                       // nil unless ask gave it
	again bool                         // it had its turn

	after time.Duration // it may wait, if its context has no deadline
	timer *time.Timer   // nil until it waits
	over  chan struct{} // closed when it has waited so long; nil if only its context bounds it
}

// newOpening returns the opening of a call that may wait, for after at most if ctx has no deadline.
func newOpening(ctx context.Context, opts OpenOptions, after time.Duration) *opening {
	o := &opening{avoid: opts.Avoid.connection(), ask: opts.Wait, after: after}
	o.waiter.answer = make(chan struct{}, 1)
	if _, ok := ctx.Deadline(); !ok {
		o.over = make(chan struct{})
	}
	return o
}

// mayWait asks the caller, once, and starts the time.
func (o *opening) mayWait() bool {
	if o.timer == nil && o.over != nil {
		o.timer = time.AfterFunc(o.after, func() { close(o.over) })
	}
	if o.ask == nil {
		return true
	}
	end, ok := o.ask()
	o.ask = nil
	if ok {
		o.done = end
	}
	return ok
}

func (o *opening) isOver() bool {
	select {
	case <-o.over:
		return true
	default:
		return false
	}
}

// end is for when the opening is over.
func (o *opening) end() {
	if o.timer != nil {
		o.timer.Stop()
	}
	if o.done != nil {
		o.done()
	}
}

// open opens a stream when there is room for it.
func (e *endpoint) open(ctx context.Context, hdr *grpc.CallHdr, o *opening) (*Stream, error) {
	if o.avoid != nil {
		c, err := e.another(ctx, o)
		if err != nil {
			return nil, err
		}
		if c != nil {
			s, err := c.open(ctx, hdr)
			if err == nil {
				return s, nil
			}
			if err := final(ctx, err); err != nil {
				return nil, err
			}
		}
	}
	for {
		c, err := e.wait(ctx, o)
		if err != nil {
			return nil, err
		}
		s, err := c.open(ctx, hdr)
		if err == nil {
			return s, nil
		}
		if err := final(ctx, err); err != nil {
			return nil, err
		}
		// The connection went while the slot was handed over. The next costs a dial, so this is no hot loop.
		if o.isOver() {
			return nil, &DialError{Address: e.addr, Err: err}
		}
		o.again = true
	}
}

// another returns a slot on another connection than the one to avoid. It waits for a dial if that is what it takes, but
// no longer; then, or if there can be no other, it returns nil.
func (e *endpoint) another(ctx context.Context, o *opening) (*conn, error) {
	dialed, err := e.furtherThan(o.avoid)
	if dialed == nil || err != nil {
		return nil, err
	}
	if !o.mayWait() {
		return nil, e.full(errMayNotWait)
	}
	select {
	case <-dialed:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-o.over: // the dial takes longer: whatever there is must do
	}
	if e.waiting.Load() > 0 {
		return nil, nil
	}
	return e.take(o.avoid), nil
}

// wait returns a slot, after those that wait already, or why there is none to wait for. It may have to wait.
func (e *endpoint) wait(ctx context.Context, o *opening) (*conn, error) {
	for asked := false; ; asked = true {
		atOnce, err := e.enqueue(o)
		if err != nil {
			return nil, err
		}
		if atOnce {
			<-o.answer
			if asked || o.again { // what failed was tried for it: while it asked, or in its turn
				return o.conn, o.err
			}
			return o.conn, resting(o.err)
		}
		if asked || o.ask == nil {
			break
		}
		if !e.dequeue(&o.waiter) { // it was answered just now
			<-o.answer
			return o.conn, o.err
		}
		if !o.mayWait() {
			return nil, e.full(errMayNotWait)
		}
	}
	o.mayWait()
	var err error
	select {
	case <-o.answer:
		return o.conn, o.err
	case <-ctx.Done():
		if err = ctx.Err(); len(*e.usable.Load()) == 0 {
			err = &DialError{Address: e.addr, Err: err}
		}
	case <-o.over:
		err = e.late()
	}
	if e.dequeue(&o.waiter) {
		return nil, err
	}
	if <-o.answer; o.conn != nil && ctx.Err() != nil {
		o.conn.release()
		return nil, err
	}
	return o.conn, o.err // it came in the last moment
}

// resting returns the error of a call that was answered without a try, which says so.
func resting(err error) error {
	dial, ok := err.(*DialError)
	if !ok {
		return err
	}
	again := *dial
	again.InBackoff = true
	return &again
}

// enqueue puts the call in the queue, and may answer it at once: by what there was before it came.
func (e *endpoint) enqueue(o *opening) (atOnce bool, err error) {
	e.mu.Lock()
	defer e.unlock()
	if err := e.useLocked(); err != nil {
		return false, err
	}
	e.waiting.Add(1) // before settleLocked looks for room: whoever makes room later sees it
	o.conn, o.err = nil, nil
	if o.again {
		e.queue.putBack(&o.waiter)
	} else {
		e.queue.add(&o.waiter)
	}
	e.settleLocked()
	return !o.queued, nil
}

// dequeue takes a call out of the queue and reports whether it was there; otherwise it has its answer.
func (e *endpoint) dequeue(w *waiter) bool {
	e.mu.Lock()
	defer e.unlock()
	if !w.queued {
		return false
	}
	e.queue.remove(w)
	e.waiting.Add(-1)
	return true
}

// late is the error of a call that has waited for as long as it may.
func (e *endpoint) late() error {
	for _, c := range *e.usable.Load() {
		if c.room() > 0 {
			return e.full(errNoStreamIn)
		}
	}
	return &DialError{Address: e.addr, Err: errNoConnection}
}

func (e *endpoint) full(why error) error {
	return &FullError{Address: e.addr, Connections: len(*e.usable.Load()), Err: why}
}
