package pool

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
)

// errEndpointGone says that the sweeper has just forgotten this endpoint; the pool has, or will make, another.
var errEndpointGone = errors.New("pool: endpoint gone")

// endpoint is one address and the connections to it.
type endpoint struct {
	pool *Pool
	addr string

	usable atomic.Pointer[[]*conn] // takes new streams; the slice is never changed
	conns  sync.Map                // every *conn that is not closed, also those that only finish their streams

	waiting atomic.Int32 // calls that wait for a slot; a finished stream wakes one

	mu    sync.Mutex    // guards dial, gone and changes of usable
	dial  *dialing      // the attempt under way, or nil
	gone  bool          // forgotten by the pool, or closed
	freed chan struct{} // a slot became free, or usable changed; capacity 1, lossy
}

func newEndpoint(p *Pool, addr string) *endpoint {
	e := &endpoint{pool: p, addr: addr, freed: make(chan struct{}, 1)}
	e.usable.Store(&[]*conn{})
	return e
}

// maxOpens bounds how often a stream that certainly was not sent is tried on another connection.
const maxOpens = 3

func (e *endpoint) open(ctx context.Context, hdr *grpc.CallHdr, avoid *conn) (*Stream, error) {
	bound := timeout{after: e.pool.cfg.ConnectTimeout}
	defer bound.stop()
	for attempt := 1; ; attempt++ {
		c, err := e.reserve(ctx, &bound, avoid)
		if err != nil {
			return nil, err
		}
		s, err := c.open(ctx, hdr)
		if err == nil {
			return s, nil
		}
		var hdrErr *HeaderError
		if ctx.Err() != nil || errors.As(err, &hdrErr) {
			return nil, err
		}
		if attempt == maxOpens {
			return nil, &DialError{Address: e.addr, Err: err}
		}
	}
}

// timeout is a time that starts when it is first waited for.
type timeout struct {
	after time.Duration
	timer *time.Timer
	over  chan struct{}
}

// done is closed once the time is over.
func (t *timeout) done() <-chan struct{} {
	if t.over == nil {
		over := make(chan struct{})
		t.over, t.timer = over, time.AfterFunc(t.after, func() { close(over) })
	}
	return t.over
}

func (t *timeout) stop() {
	if t.timer != nil {
		t.timer.Stop()
	}
}

// reserve returns a connection with a slot taken for the caller, who gives it back with conn.release. It is another one
// than avoid if there is or can be another with room.
func (e *endpoint) reserve(ctx context.Context, bound *timeout, avoid *conn) (*conn, error) {
	seen := e.usable.Load()
	if c := e.take(avoid); c != nil {
		return c, nil
	}
	if avoid != nil {
		d, err := e.grow(seen)
		if err != nil {
			return nil, err
		}
		if d != nil {
			err = e.await(ctx, bound, d, nil)
		}
		if c := e.take(avoid); c != nil {
			return c, nil
		}
		if err != nil {
			if c := e.take(nil); c != nil {
				return c, nil
			}
			return nil, err
		}
	}
	return e.wait(ctx, bound)
}

// take takes a slot of the connection with the fewest streams, avoid aside, without waiting, or returns nil. When all
// connections are busy it has a further one made for later calls.
func (e *endpoint) take(avoid *conn) *conn {
	seen := e.usable.Load()
	conns := *seen
	for {
		var best *conn
		var least int32
		for _, c := range conns {
			if n := c.inflight.Load(); c != avoid && n >= 0 && c.hasRoom(n) && (best == nil || n < least) {
				best, least = c, n
			}
		}
		if best == nil {
			return nil
		}
		if !best.take() {
			continue // somebody else was faster, or it was retired
		}
		if int(least) >= e.pool.cfg.StreamsPerConnection && len(conns) < e.pool.cfg.Connections {
			_, _ = e.grow(seen) // for later calls; this one has its slot
		}
		return best
	}
}

// wait makes a connection or waits for a slot, until bound or the end of ctx.
func (e *endpoint) wait(ctx context.Context, bound *timeout) (*conn, error) {
	e.waiting.Add(1)
	defer e.waiting.Add(-1)
	var dial *dialing // the last one seen
	dials := 0        // seen while no connection was in use
	alone := false    // a further connection cannot be had: those in use are all there are
	for {
		seen := e.usable.Load()
		if c := e.take(nil); c != nil {
			e.wake() // there may be room for another that waits
			return c, nil
		}
		if alone && len(*seen) > 0 {
			if err := e.await(ctx, bound, nil, e.freed); err != nil {
				return nil, err
			}
			continue
		}
		d, err := e.grow(seen)
		if err != nil {
			return nil, err
		}
		if e.usable.Load() != seen {
			continue
		}
		if d != dial {
			if dial != nil && dial.err != nil && len(*seen) == 0 {
				return nil, dial.err // it failed while something else woke us
			}
			if len(*seen) == 0 {
				if dials == maxOpens {
					return nil, &DialError{Address: e.addr, Err: errGoneAtOnce}
				}
				dials++
			}
			dial = d
		}
		if err := e.await(ctx, bound, d, e.freed); err != nil {
			if !d.failedWith(err) || len(*e.usable.Load()) == 0 {
				return nil, err
			}
			alone = true
		}
	}
}

// await waits for something that may have made room: the end of d or a value of freed, which may be nil both. It returns
// the error of d, of ctx, or that of bound.
func (e *endpoint) await(ctx context.Context, bound *timeout, d *dialing, freed <-chan struct{}) error {
	var done <-chan struct{}
	if d != nil {
		done = d.done
	}
	select {
	case <-done:
		return d.err
	case <-freed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-e.pool.ctx.Done():
		return ErrClosed
	case <-bound.done():
		if len(*e.usable.Load()) == 0 {
			return &DialError{Address: e.addr, Err: errNoConnection}
		}
		return &DialError{Address: e.addr, Err: errNoSlot}
	}
}

// wakeWaiting lets one call look again, if any waits.
func (e *endpoint) wakeWaiting() {
	if e.waiting.Load() > 0 {
		e.wake()
	}
}

// wake lets one call that waits look again.
func (e *endpoint) wake() {
	select {
	case e.freed <- struct{}{}:
	default:
	}
}

// dialing is one attempt to connect, shared by all who wait for it.
type dialing struct {
	done chan struct{} // closed when err is set
	err  error         // set before done is closed, with the endpoint's mu held
}

// failedWith reports whether the attempt has ended with err. d may be nil.
func (d *dialing) failedWith(err error) bool {
	if d == nil {
		return false
	}
	select {
	case <-d.done:
		return d.err == err
	default:
		return false
	}
}

// grow starts a dial unless one is under way, the endpoint has as many connections as it may, or the usable ones are no
// longer those that the caller has seen. It returns the attempt under way, or nil.
func (e *endpoint) grow(seen *[]*conn) (*dialing, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone {
		if e.pool.ctx.Err() != nil {
			return nil, ErrClosed
		}
		return nil, errEndpointGone
	}
	if e.dial != nil || e.usable.Load() != seen || len(*seen) >= e.pool.cfg.Connections {
		return e.dial, nil
	}
	d := &dialing{done: make(chan struct{})}
	e.dial = d
	e.pool.wg.Go(func() { e.finishDial(d) })
	return d, nil
}

func (e *endpoint) finishDial(d *dialing) {
	c, err := dialConn(e.pool.ctx, e)
	e.mu.Lock()
	switch {
	case e.pool.ctx.Err() != nil:
		if err == nil {
			defer c.closeNow(ErrClosed)
		}
		err = ErrClosed
	case err == nil && !c.isDead(): // if it ends from here on, retire finds it
		e.setUsableLocked(slices.Concat(*e.usable.Load(), []*conn{c}))
	}
	e.dial = nil
	d.err = err
	close(d.done)
	e.mu.Unlock()
	e.wakeWaiting() // those who wait for a slot and not for this attempt
	if err != nil {
		e.pool.log.Debug("connect failed", "endpoint", e.addr, "error", err)
	}
}

func (e *endpoint) setUsableLocked(conns []*conn) { e.usable.Store(&conns) }

// retire takes a connection out of use. Its streams go on. It may be called more than once.
func (e *endpoint) retire(c *conn) {
	e.mu.Lock()
	old := *e.usable.Load()
	i := slices.Index(old, c)
	if i >= 0 {
		e.setUsableLocked(slices.Concat(old[:i], old[i+1:]))
	}
	e.mu.Unlock()
	if i >= 0 {
		e.wakeWaiting() // there may be room for a connection
	}
}

// sweep closes connections idle since before the given time and reports whether the endpoint has none left and is now gone.
func (e *endpoint) sweep(since time.Time) bool {
	for _, c := range *e.usable.Load() {
		if e.waiting.Load() == 0 && c.idleSince(since) && c.shut() { // whoever waits may be about to use it
			e.retire(c)
			c.closeWhenIdle()
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(*e.usable.Load()) == 0 && e.dial == nil && e.waiting.Load() == 0 && len(e.all()) == 0 {
		e.gone = true
	}
	return e.gone
}

func (e *endpoint) all() []*conn {
	var all []*conn
	e.conns.Range(func(c, _ any) bool {
		all = append(all, c.(*conn))
		return true
	})
	return all
}

func (e *endpoint) close() {
	e.mu.Lock()
	e.gone = true
	e.mu.Unlock()
	for _, c := range e.all() {
		c.closeNow(ErrClosed)
	}
}
