package pool

import (
	"context"
	"errors"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
)

// Errors after which an Open tries again.
var (
	// errEndpointGone says that the pool has just removed this endpoint. Group.endpoint returns another one for the address.
	errEndpointGone = errors.New("pool: endpoint gone")
	// errOverLimit says that the peer has lowered its MAX_CONCURRENT_STREAMS after a slot was taken.
	errOverLimit = errors.New("pool: over the peer's limit")
)

// openAtOnce opens a stream if a connection other than that of avoid has a slot and no other call waits for one. Otherwise
// it returns nil and no error.
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

// final returns the error with which Open fails after conn.open has failed with err, or nil if Open is to try another
// connection.
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

// opening is the state of an Open that has to wait. It is owned by the goroutine that called Open.
type opening struct {
	waiter
	avoid *conn                        // of OpenOptions.Avoid; nil for none
	ask   func() (end func(), ok bool) // OpenOptions.Wait; nil when it was called, or for none
	done  func()                       // what ask returned as end; nil for none
	again bool                         // it got a slot before, but the stream could not be opened

	after time.Duration // how long it may wait if its context has no deadline
	timer *time.Timer   // closes over; nil until it waits
	over  chan struct{} // closed when it has waited for after; nil if its context has a deadline
}

// newOpening returns the opening of a call. If ctx has no deadline, it waits for at most after.
func newOpening(ctx context.Context, opts OpenOptions, after time.Duration) *opening {
	o := &opening{avoid: opts.Avoid.connection(), ask: opts.Wait, after: after}
	o.waiter.answer = make(chan struct{}, 1)
	if _, ok := ctx.Deadline(); !ok {
		o.over = make(chan struct{})
	}
	return o
}

// mayWait reports whether the call may wait. The first time, it calls OpenOptions.Wait and starts the timer.
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

// isOver reports whether the call has waited for as long as it may.
func (o *opening) isOver() bool {
	select {
	case <-o.over:
		return true
	default:
		return false
	}
}

// end stops the timer and says that the waiting is over. It is called once, when Open returns.
func (o *opening) end() {
	if o.timer != nil {
		o.timer.Stop()
	}
	if o.done != nil {
		o.done()
	}
}

// open waits for a slot and opens a stream.
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
		// The connection ended after the slot was taken. The loop does not spin: each further connection takes a dial.
		if o.isOver() {
			return nil, &DialError{Address: e.addr, Err: err}
		}
		o.again = true
	}
}

// another takes a slot on a connection other than o.avoid, and returns the connection. If it needs a new connection, it
// waits for one dial. It returns nil if the dial does not bring a connection with a slot, or there can be no other
// connection.
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
	case <-o.over: // the dial takes too long: use any connection
	}
	if e.waiting.Load() > 0 {
		return nil, nil
	}
	return e.take(o.avoid), nil
}

// wait waits until a connection has a slot for the call, takes the slot and returns the connection. Calls that waited before
// are served first. The error says why the call gets no slot.
func (e *endpoint) wait(ctx context.Context, o *opening) (*conn, error) {
	for asked := false; ; asked = true {
		atOnce, err := e.enqueue(o)
		if err != nil {
			return nil, err
		}
		if atOnce {
			<-o.answer
			if asked || o.again { // an error is of a dial since the call began
				return o.conn, o.err
			}
			return o.conn, inBackoff(o.err) // an error is of an earlier dial
		}
		if asked || o.ask == nil {
			break
		}
		if !e.dequeue(&o.waiter) { // it was answered meanwhile
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
	return o.conn, o.err // it was answered just before it gave up
}

// inBackoff returns err, and if it is a *DialError a copy with InBackoff set. err may be nil.
func inBackoff(err error) error {
	dial, ok := err.(*DialError)
	if !ok {
		return err
	}
	again := *dial
	again.InBackoff = true
	return &again
}

// enqueue puts the call into the queue and settles the endpoint. atOnce reports whether the call was answered by that.
func (e *endpoint) enqueue(o *opening) (atOnce bool, err error) {
	e.mu.Lock()
	defer e.unlock()
	if err := e.useLocked(); err != nil {
		return false, err
	}
	e.waiting.Add(1) // before settleLocked looks for room, so that a release after that sees a waiting call
	o.conn, o.err = nil, nil
	if o.again {
		e.queue.putBack(&o.waiter)
	} else {
		e.queue.add(&o.waiter)
	}
	e.settleLocked()
	return !o.queued, nil
}

// dequeue removes a call from the queue. It reports false if the call is not in the queue, because it was answered.
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

// late returns the error of a call that has waited for as long as it may.
func (e *endpoint) late() error {
	for _, c := range *e.usable.Load() {
		if c.room() > 0 {
			return e.full(errNoStreamIn)
		}
	}
	return &DialError{Address: e.addr, Err: errNoConnection}
}

// full returns a FullError with that cause.
func (e *endpoint) full(why error) error {
	return &FullError{Address: e.addr, Connections: len(*e.usable.Load()), Err: why}
}
