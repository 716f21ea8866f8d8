package etcdsource

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	outageLogInterval = time.Minute
	// aftermath is how long etcd counts as in trouble after its last sign of that: what was registered may be lost later,
	// when a lease ends that could not be renewed.
	aftermath = time.Minute
)

// outage knows whether etcd can be used, by what those say who try. It logs that etcd cannot be used, at most once per
// outageLogInterval, and that it can again.
type outage struct {
	log       *slog.Logger
	endpoints string

	mu      sync.Mutex                 // guards what follows
	failing map[string]error           // who cannot use etcd, and why
	began   time.Time                  // zero when etcd can be used
	often   rate.Sometimes             // how often an outage is logged
	told    bool                       // this outage was logged
	trouble time.Time                  // the last sign that something is wrong with etcd; zero if there was none
	silent  map[string]*rate.Sometimes // how often it is logged of a member that it does not answer
}

func newOutage(log *slog.Logger, endpoints string) *outage {
	return &outage{
		log: log, endpoints: endpoints, failing: map[string]error{}, often: rate.Sometimes{Interval: outageLogInterval},
		silent: map[string]*rate.Sometimes{},
	}
}

// failed notes that who could not use etcd, unless that was because ctx ended.
func (o *outage) failed(ctx context.Context, who string, err error) {
	if ctx.Err() != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failing[who] = err
	now := time.Now()
	o.trouble = now
	if o.began.IsZero() {
		o.began = now
	}
	o.often.Do(func() {
		o.told = true
		o.log.Warn("etcd cannot be used; routes and instances stay as they are until it can: start it, or name another",
			"endpoints", o.endpoints, "since", o.began.Format(time.RFC3339), "what", who, "error", err)
	})
}

// over notes that who can use etcd.
func (o *outage) over(who string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failing[who] != nil {
		o.trouble = time.Now()
	}
	delete(o.failing, who)
	if len(o.failing) > 0 {
		return
	}
	if o.told {
		o.log.Info("etcd can be used again", "endpoints", o.endpoints, "outage", time.Since(o.began).Round(time.Millisecond))
	}
	o.began, o.told = time.Time{}, false
}

// reason says why etcd cannot be used, or "".
func (o *outage) reason() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, err := range o.failing {
		return err.Error()
	}
	return ""
}

// troubled notes a sign that something is wrong with etcd, though it can be used.
func (o *outage) troubled() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.trouble = time.Now()
}

// inTrouble reports whether etcd cannot be used, or something was wrong with it not long ago.
func (o *outage) inTrouble() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.failing) > 0 || !o.trouble.IsZero() && time.Since(o.trouble) < aftermath
}

// memberSilent notes that a connection to a member of etcd was closed because nothing came any more.
func (o *outage) memberSilent(address string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.trouble = time.Now()
	often := o.silent[address]
	if often == nil {
		often = &rate.Sometimes{Interval: outageLogInterval}
		o.silent[address] = often
	}
	often.Do(func() {
		o.log.Warn("a member of etcd does not answer; its requests and watches go to others, if there are any", "member", address)
	})
}
