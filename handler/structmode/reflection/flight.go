package reflection

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// flight is one fetch, with its result for the callers that wait for it.
type flight[T any] struct {
	service string
	done    chan struct{} // closed when the fetch has returned

	// Set before done is closed.
	value T
	err   error
}

// join returns the fetch that the caller is to wait for: the one that runs for the key or, if none runs, one that join
// starts for the service. held is the outcome that the caller has looked up, and that is of no use to it. If there is
// another outcome by now, join returns nil and no error. It returns an error if the service must not be fetched yet.
func (c *Cache[T]) join(
	name, svc string, held *outcome[T], fetch func(context.Context) (T, error),
) (*flight[T], error) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	k := c.keyLocked(name)
	o := k.outcomeOf(svc)
	if o != nil && o != held {
		return nil, nil
	}
	// This comes before the flight, because the answer does not depend on a fetch of another service.
	if o != nil && now.Before(o.askAt) {
		if o.err != nil {
			return nil, fmt.Errorf("not asked again for %v: %w", o.askAt.Sub(now).Round(time.Millisecond), o.err)
		}
		return nil, ErrMissing
	}
	if k.flight != nil {
		return k.flight, nil
	}
	if (o == nil || !o.known) && k.misses.TokensAt(now) < 1 {
		return nil, ErrBusy
	}
	f := &flight[T]{service: svc, done: make(chan struct{})}
	k.flight = f
	c.wg.Add(1)
	go c.fly(k, f, fetch)
	return f, nil
}

// fly is the goroutine of a fetch: it runs the fetch and stores the outcome in k. If k was dropped meanwhile, the outcome is
// only for the callers that wait.
func (c *Cache[T]) fly(k *key[T], f *flight[T], fetch func(context.Context) (T, error)) {
	defer c.wg.Done()
	f.value, f.err = c.run(fetch)
	now := time.Now()

	c.mu.Lock()
	defer c.mu.Unlock()
	k.flight = nil
	k.put(f.service, c.next(k.outcomeOf(f.service), f, now), c.clock, c.cfg.MaxServices)
	if f.err != nil {
		k.misses.AllowN(now, 1)
	}
	close(f.done)
}

// next returns the outcome for a service after a fetch that followed the outcome old, which may be nil.
func (c *Cache[T]) next(old *outcome[T], f *flight[T], now time.Time) *outcome[T] {
	if f.err == nil {
		return &outcome[T]{value: f.value, known: true, askAt: now.Add(c.cfg.MissInterval)}
	}
	o := &outcome[T]{}
	if old != nil {
		*o = *old
	}
	o.err = f.err
	if errors.Is(f.err, ErrMissing) {
		o.failures = 0
		o.askAt = now.Add(c.cfg.MissInterval)
	} else {
		o.failures++
		o.askAt = now.Add(c.cfg.backoff(o.failures))
	}
	return o
}

// run calls fetch. It turns a panic into an error, because fetch parses a peer's bytes in a goroutine that is no call's.
func (c *Cache[T]) run(fetch func(context.Context) (T, error)) (v T, err error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.FetchTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		} else if err != nil && c.ctx.Err() != nil {
			err = ErrClosed
		}
	}()
	return fetch(ctx)
}
