package health

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// target is an address that is checked in one way, for all who watch it.
type target struct {
	checker *Checker
	key     targetKey
	wait    time.Duration   // before the first check
	ctx     context.Context // ends with the last watcher, or with the Checker
	cancel  context.CancelFunc

	delivering sync.Mutex // held while changed is called; taken before mu

	mu       sync.Mutex // guards what follows
	record   record
	watchers []*watcher
}

// watcher is one call of Watch.
type watcher struct {
	changed func(Status)
	told    state       // that changed was last called with; guarded by target.mu
	stopped atomic.Bool // changed is called no more
}

func newTarget(c *Checker, key targetKey, targets int) *target {
	t := &target{checker: c, key: key, wait: firstWait(key.cfg.Interval, targets)}
	t.ctx, t.cancel = context.WithCancel(c.ctx)
	return t
}

// join adds a watcher and returns the state, of which it has not been told.
func (t *target) join(w *watcher) state {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watchers = append(t.watchers, w)
	return t.record.state
}

// part removes a watcher and returns how many are left.
func (t *target) part(w *watcher) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watchers = slices.DeleteFunc(t.watchers, func(o *watcher) bool { return o == w })
	return len(t.watchers)
}

func (t *target) status() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.record.status()
}

// run checks the address until the target ends.
func (t *target) run() {
	defer t.cancel()
	p := t.checker.newProber(t.key.address, t.key.cfg)
	defer p.close()
	timer := time.NewTimer(t.wait)
	defer timer.Stop()
	wait := secondWait
	for {
		select {
		case <-timer.C:
		case <-t.ctx.Done():
			return
		}
		next := time.Now().Add(wait(t.key.cfg.Interval)) // from one start to the next: a slow check delays no other
		wait = laterWait
		err := t.check(p)
		if t.ctx.Err() != nil {
			return // the check was not finished
		}
		t.add(err)
		timer.Reset(time.Until(next))
	}
}

func (t *target) check(p prober) error {
	ctx, cancel := context.WithTimeout(t.ctx, t.key.cfg.Timeout)
	defer cancel()
	return p.probe(ctx)
}

// Many addresses are often watched at one moment. Their first checks come soon, spread a little, their second ones
// are spread over the whole interval, and from then on each goes its own way. No wait is longer than the interval, so
// that a change shows within Interval × Fall, or × Rise.

const (
	firstWithin = 500 * time.Millisecond // the first check is made, or in a tenth of a shorter interval,
	firstEach   = time.Millisecond       // but in so much for each address that is checked: connecting costs more than a check
)

func firstWait(interval time.Duration, targets int) time.Duration {
	return rand.N(max(min(interval/10, firstWithin), min(time.Duration(targets)*firstEach, interval)))
}

func secondWait(interval time.Duration) time.Duration { return interval/10 + rand.N(interval*9/10) }

func laterWait(interval time.Duration) time.Duration { return interval*8/10 + rand.N(interval/5) }

// add counts a result and tells the watchers if it changes the state.
func (t *target) add(err error) {
	t.mu.Lock()
	changed := t.record.add(err, time.Now(), t.key.cfg.Rise, t.key.cfg.Fall)
	now := t.record
	t.mu.Unlock()
	if !changed {
		return
	}
	if now.state == healthy {
		t.checker.log.Info("endpoint healthy", "endpoint", t.key.address, "check", t.key.cfg.Type)
	} else {
		t.checker.log.Warn("endpoint unhealthy", "endpoint", t.key.address, "check", t.key.cfg.Type, "failures", now.failures, "error", err)
	}
	t.deliver()
}

// deliver tells the state to each watcher that has not heard of it.
func (t *target) deliver() {
	t.delivering.Lock()
	defer t.delivering.Unlock()
	var untold []*watcher
	t.mu.Lock()
	status := t.record.status()
	for _, w := range t.watchers {
		if w.told != t.record.state {
			w.told = t.record.state
			untold = append(untold, w)
		}
	}
	t.mu.Unlock()
	for _, w := range untold {
		if !w.stopped.Load() {
			w.changed(status)
		}
	}
}
