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
	// aftermath is how long etcd counts as in trouble after the last sign of trouble. Instances may be lost that much later,
	// when the leases end that could not be renewed.
	aftermath = time.Minute
)

// reachability knows whether etcd can be used. Its users, which are the followers, report their failures and successes by
// name. An outage lasts from the first failure until no user fails any more. An outage is logged at most once per
// outageLogInterval; the end of one is logged if its beginning was.
type reachability struct {
	log       *slog.Logger
	endpoints string // of etcd, for the log

	mu      sync.Mutex                 // guards what follows
	failing map[string]error           // the last failure of each user that cannot use etcd
	began   time.Time                  // when the outage began; zero while there is none
	often   rate.Sometimes             // bounds how often an outage is logged
	logged  bool                       // this outage was logged
	trouble time.Time                  // the last sign of trouble with etcd; zero if there was none
	silent  map[string]*rate.Sometimes // by member: bounds how often it is logged that the member does not answer
}

func newReachability(log *slog.Logger, endpoints string) *reachability {
	return &reachability{
		log: log, endpoints: endpoints, failing: map[string]error{}, often: rate.Sometimes{Interval: outageLogInterval},
		silent: map[string]*rate.Sometimes{},
	}
}

// failed reports that a user cannot use etcd. It does nothing if ctx has ended, since that may be why.
func (r *reachability) failed(ctx context.Context, user string, err error) {
	if ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failing[user] = err
	now := time.Now()
	r.trouble = now
	if r.began.IsZero() {
		r.began = now
	}
	r.often.Do(func() {
		r.logged = true
		r.log.Warn("etcd cannot be used; routes and instances stay as they are until it can: start it, or name another",
			"endpoints", r.endpoints, "since", r.began.Format(time.RFC3339), "what", user, "error", err)
	})
}

// recovered reports that a user can use etcd, again or still.
func (r *reachability) recovered(user string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failing[user] != nil {
		r.trouble = time.Now()
	}
	delete(r.failing, user)
	if len(r.failing) > 0 {
		return
	}
	if r.logged {
		r.log.Info("etcd can be used again", "endpoints", r.endpoints, "outage", time.Since(r.began).Round(time.Millisecond))
	}
	r.began, r.logged = time.Time{}, false
}

// reason returns why etcd cannot be used; "" if it can.
func (r *reachability) reason() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, err := range r.failing {
		return err.Error()
	}
	return ""
}

// noteTrouble notes a sign that something is wrong with etcd, though it can be used.
func (r *reachability) noteTrouble() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trouble = time.Now()
}

// inTrouble reports whether etcd cannot be used, or something was wrong with it within aftermath.
func (r *reachability) inTrouble() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failing) > 0 || !r.trouble.IsZero() && time.Since(r.trouble) < aftermath
}

// memberSilent notes and logs that a connection to a member of etcd was closed because the member had sent nothing for too
// long.
func (r *reachability) memberSilent(address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trouble = time.Now()
	often := r.silent[address]
	if often == nil {
		often = &rate.Sometimes{Interval: outageLogInterval}
		r.silent[address] = often
	}
	often.Do(func() {
		r.log.Warn("a member of etcd does not answer; its requests and watches go to others, if there are any", "member", address)
	})
}
