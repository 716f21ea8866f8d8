package health

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// target is an address that is checked with one Config, for all its subscribers.
type target struct {
	checker *Checker
	key     targetKey
	wait    time.Duration   // before the first check
	ctx     context.Context // ends with the last subscriber, or with the Checker
	cancel  context.CancelFunc

	delivering sync.Mutex // held while changed is called; taken before mu

	mu          sync.Mutex // guards what follows
	record      record
	subscribers []*subscriber
}

// subscriber is one call of Subscribe.
type subscriber struct {
	changed func(Status)
	told    state       // the state that changed was last called with; guarded by target.mu
	stopped atomic.Bool // changed is called no more
}

func newTarget(c *Checker, key targetKey, targets int) *target {
	t := &target{checker: c, key: key, wait: firstWait(key.cfg.Interval, targets)}
	t.ctx, t.cancel = context.WithCancel(c.ctx)
	return t
}

// join adds a subscriber and returns the state of the target, which the subscriber has not been told.
func (t *target) join(sub *subscriber) state {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subscribers = append(t.subscribers, sub)
	return t.record.state
}

// part removes a subscriber and returns how many are left.
func (t *target) part(sub *subscriber) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subscribers = slices.DeleteFunc(t.subscribers, func(o *subscriber) bool { return o == sub })
	return len(t.subscribers)
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

// Many targets often begin at one moment. Their first checks come soon and are spread a little, their second checks are
// spread over the whole interval, and later waits are random. No wait is longer than the interval, so that a change shows
// within Interval × Fall, or × Rise.

const (
	firstWithin = 500 * time.Millisecond // bounds the wait before a first check, with a tenth of the interval
	firstEach   = time.Millisecond       // the bound grows to so much for each target, since the first checks all connect
)

// firstWait returns the wait before the first check of a target, beside which there are so many others.
func firstWait(interval time.Duration, targets int) time.Duration {
	return rand.N(max(min(interval/10, firstWithin), min(time.Duration(targets)*firstEach, interval)))
}

func secondWait(interval time.Duration) time.Duration { return interval/10 + rand.N(interval*9/10) }

func laterWait(interval time.Duration) time.Duration { return interval*8/10 + rand.N(interval/5) }

// add counts the result of a check. If that changes the state, it logs the change and calls the subscribers.
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

// deliver calls each subscriber that has not been told the state yet.
func (t *target) deliver() {
	t.delivering.Lock()
	defer t.delivering.Unlock()
	var untold []*subscriber
	t.mu.Lock()
	status := t.record.status()
	for _, sub := range t.subscribers {
		if sub.told != t.record.state {
			sub.told = t.record.state
			untold = append(untold, sub)
		}
	}
	t.mu.Unlock()
	for _, sub := range untold {
		if !sub.stopped.Load() {
			sub.changed(status)
		}
	}
}
