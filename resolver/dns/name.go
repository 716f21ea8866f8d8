package dns

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// name is a host name that has subscribers. It is looked up again and again, and what each answer says decides when:
//
//	         ┌──────────── within refresh ──────────────┐
//	         v                                          │
//	look up ─┼─ addresses ────────> they count ─────────┤
//	         ├─ there are none ───> the last stay once, ┤   The name may be of a service that has gone, or the server may
//	         │                      then they go;       │   not know the name yet: so it is asked a second time.
//	         │                      asked again soon    │
//	         └─ no answer ────────> the last stay; ─────┘
//	                                asked again soon
type name struct {
	names  *Names
	host   string
	ctx    context.Context // ends with the last subscriber, or with the Names
	cancel context.CancelFunc
	asked  chan struct{} // closed after the first look-up
	hurry  chan struct{} // has room for one; filled when the refresh may have become shorter

	// owned by run
	failures int           // look-ups since the last complete answer that got no answer, or one for one family only
	took     time.Duration // by the last look-up
	absents  int           // look-ups since the last one that gave addresses, by which the name has none

	mu          sync.Mutex // guards what follows
	known       Answer
	subscribers []*subscriber
}

// subscriber is one call of Subscribe.
type subscriber struct {
	refresh time.Duration
	changed func()
	stopped atomic.Bool // changed is called no more
}

// firstRetry is the wait after a look-up that gave no addresses. It doubles with each further one, up to the refresh.
const firstRetry = time.Second

func newName(n *Names, host string) *name {
	at := &name{names: n, host: host, asked: make(chan struct{}), hurry: make(chan struct{}, 1)}
	at.ctx, at.cancel = context.WithCancel(n.ctx)
	return at
}

// join adds a subscriber.
func (at *name) join(sub *subscriber) {
	at.mu.Lock()
	defer at.mu.Unlock()
	at.subscribers = append(at.subscribers, sub)
	select {
	case at.hurry <- struct{}{}:
	default:
	}
}

// part removes a subscriber and returns how many are left.
func (at *name) part(sub *subscriber) int {
	at.mu.Lock()
	defer at.mu.Unlock()
	at.subscribers = slices.DeleteFunc(at.subscribers, func(o *subscriber) bool { return o == sub })
	return len(at.subscribers)
}

func (at *name) answer() Answer {
	at.mu.Lock()
	defer at.mu.Unlock()
	return at.known
}

// run looks the name up until its last subscriber has left.
func (at *name) run() {
	defer at.cancel()
	timer := time.NewTimer(maxRefresh)
	defer timer.Stop()
	for {
		began := time.Now()
		if !at.look() {
			return
		}
		chance := rand.Float64() // so that names with subscriptions of one moment are not looked up together for ever
		for waiting := true; waiting; {
			timer.Reset(time.Until(began.Add(at.wait(chance))))
			select {
			case <-timer.C:
				waiting = false
			case <-at.hurry:
			case <-at.ctx.Done():
				return
			}
		}
	}
}

// wait returns the time from the start of one look-up to that of the next. chance, from 0 to below 1, shortens the refresh by
// up to a fifth.
func (at *name) wait(chance float64) time.Duration {
	at.mu.Lock()
	refresh := maxRefresh
	for _, sub := range at.subscribers {
		refresh = min(refresh, sub.refresh)
	}
	at.mu.Unlock()
	wait := refresh - time.Duration(chance*float64(refresh)/5)
	for _, times := range []int{at.failures, at.absents} {
		if times > 0 {
			wait = min(wait, firstRetry<<min(times-1, 20))
		}
	}
	return wait
}

// look looks the name up once and notes the answer. It reports false if the name ended meanwhile.
func (at *name) look() bool {
	n, before := at.names, at.answer()
	turn := n.turns.of(before, at.took)
	select {
	case turn.slots <- struct{}{}:
	case <-at.ctx.Done():
		return false
	}
	began := time.Now()
	now := n.lookup(at.ctx, at.host, turn.patience, before.Addresses)
	at.took = time.Since(began)
	<-turn.slots
	if at.ctx.Err() != nil {
		return false
	}
	switch {
	case now.Err == nil:
		n.answered.Add(1)
		at.failures, at.absents = 0, 0
	case isAbsent(now.Err):
		n.absent.Add(1)
		at.absents++
		if at.absents == 1 {
			now.Addresses, now.Omitted = before.Addresses, before.Omitted
		}
	default:
		n.failed.Add(1)
		at.failures++
		if len(now.Addresses) > 0 { // of one family
			at.absents = 0
		} else {
			now.Addresses, now.Omitted = before.Addresses, before.Omitted
		}
	}
	at.note(before, now)
	return true
}

// note replaces the answer that is known. If they differ, it logs that and calls the subscribers.
func (at *name) note(before, now Answer) {
	at.mu.Lock()
	at.known = now
	subscribers := slices.Clone(at.subscribers)
	at.mu.Unlock()
	if !before.Asked {
		close(at.asked)
	}
	same := slices.Equal(before.Addresses, now.Addresses) && before.Omitted == now.Omitted
	if before.Asked && same && errorText(before.Err) == errorText(now.Err) {
		return
	}
	log := at.names.log.With("name", at.host, "addresses", len(now.Addresses))
	switch {
	case now.Err != nil && (before.Err == nil || !same):
		log.Warn("the name of an endpoint cannot be looked up", "error", now.Err)
	case now.Err == nil && before.Err != nil:
		log.Info("the name of an endpoint can be looked up again")
	case now.Err == nil && before.Asked:
		log.Info("the name of an endpoint has other addresses", "came", len(without(now.Addresses, before.Addresses)), "gone", len(without(before.Addresses, now.Addresses)))
	}
	for _, sub := range subscribers {
		if !sub.stopped.Load() {
			sub.changed()
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// without returns the addresses in a that are not in b. Both are sorted.
func without(a, b []netip.Addr) (rest []netip.Addr) {
	for _, addr := range a {
		if _, ok := slices.BinarySearchFunc(b, addr, netip.Addr.Compare); !ok {
			rest = append(rest, addr)
		}
	}
	return rest
}
