package etcdstore

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
)

const (
	heartbeatsPerTTL     = 3
	maxHeartbeatInterval = 20 * time.Second // because only heartbeats notice that etcd has lost its data
	minHeartbeatTimeout  = 500 * time.Millisecond
	minHeartbeatRetry    = 100 * time.Millisecond
	maxHeartbeatRetry    = 2 * time.Second
	leaveTimeout         = 3 * time.Second
)

// Registration keeps one instance of a service registered.
//
//	          ┌──────────── etcd away ───────────┐
//	          v                                  │
//	pending ──────ok──────> registered ──────────┤
//	   ^                      ^     │ another registration wrote it
//	   └──etcd away──┐     gone     v
//	                 └──────── displaced
//
// If the instance is deleted or its lease is lost, Registration registers it again as soon as it notices: a watch tells it of
// deletions, a heartbeat of anything else. If another registration has written the instance, it leaves that alone until it
// is gone.
type Registration struct {
	// set once
	store      *Services
	service    string
	instance   spec.Instance
	ttl        time.Duration
	log        *slog.Logger
	registered chan Heartbeat // gets the first heartbeat that succeeded

	// owned by Run
	state   registrationState
	held    bool               // the instance was registered by it before
	granted []clientv3.LeaseID // its own leases, one of which the instance is on, or may be
	weight  int                // that SetWeight gave the instance; 0 for none
	retry   time.Duration      // wait after the next heartbeat that fails
}

// registrationState is the state of a Registration; see there.
type registrationState int

const (
	registrationPending registrationState = iota // not registered, as far as is known
	registrationHeld
	registrationDisplaced
)

// NewRegistration returns a registration for a valid service, instance and ttl. It does nothing before Run.
func NewRegistration(store *Services, service string, in spec.Instance, ttl time.Duration, log *slog.Logger) *Registration {
	return &Registration{
		store: store, service: service, instance: in, ttl: ttl,
		log:        log.With("service", service, "address", in.Address),
		registered: make(chan Heartbeat, 1),
		retry:      minHeartbeatRetry,
	}
}

// Registered returns a channel that gets one value: the result of the first heartbeat that succeeded.
func (r *Registration) Registered() <-chan Heartbeat { return r.registered }

// Run keeps the instance registered until ctx ends; while etcd cannot be used it tries again and again. Then it deregisters
// the instance, unless another registration has written it since. That takes at most 3 s; if it fails, the lease runs out
// after the ttl. Call Run once.
func (r *Registration) Run(ctx context.Context) {
	gone := make(chan struct{}, 1)
	var watch sync.WaitGroup
	watch.Go(func() { r.watch(ctx, gone) })
	for ctx.Err() == nil {
		select {
		case <-time.After(r.beat(ctx)):
		case <-gone:
		case <-ctx.Done():
		}
	}
	watch.Wait()
	r.leave(ctx)
}

// watch watches the key of the instance until ctx ends. It puts a value into gone when the key is deleted, and when a watch
// begins, since the key may have been deleted before.
func (r *Registration) watch(ctx context.Context, gone chan<- struct{}) {
	key := ServiceKey(r.store.prefix, r.service, r.instance.Address)
	for ctx.Err() == nil {
		for resp := range r.store.cli.Watch(clientv3.WithRequireLeader(ctx), key, clientv3.WithFilterPut(), clientv3.WithCreatedNotify()) {
			if !resp.Created && len(resp.Events) == 0 {
				continue
			}
			select {
			case gone <- struct{}{}:
			default:
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(etcdclient.Jitter(maxHeartbeatRetry)):
		}
	}
}

// beat sends a heartbeat and returns the time until the next one.
func (r *Registration) beat(ctx context.Context) time.Duration {
	interval := min(r.ttl/heartbeatsPerTTL, maxHeartbeatInterval)
	due := time.Now().Add(interval)
	// Requests go to all members in turn, and a member without a leader refuses them. A request that gets no answer within
	// half of the interval leaves time for two more, at other members, before the ttl is over.
	timeout := interval
	if r.state == registrationHeld {
		timeout = interval / 2
	}
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), min(max(timeout, minHeartbeatTimeout), etcdclient.RequestTimeout))
	defer cancel()
	// The first heartbeat takes the instance over from any other registration: the last one to begin wins.
	hb, err := r.store.heartbeat(ctx, r.service, r.instance, r.ttl, &registrant{owns: r.owns, held: r.held, weight: r.weight})
	switch {
	case err == nil:
		r.hold(hb)
	case errors.Is(err, errTakenOver):
		r.displaced()
	default:
		if hb.Lease != clientv3.NoLease {
			r.granted = append(r.granted, hb.Lease)
		}
		r.failed(ctx, err)
		wait := etcdclient.Jitter(r.retry)
		r.retry = min(2*r.retry, maxHeartbeatRetry)
		return min(wait, interval)
	}
	r.retry = minHeartbeatRetry
	return max(0, time.Until(due))
}

// owns reports whether a lease is the registration's own.
func (r *Registration) owns(id clientv3.LeaseID) bool {
	return slices.Contains(r.granted, id)
}

// hold notes a heartbeat that succeeded.
func (r *Registration) hold(hb Heartbeat) {
	switch {
	case !r.held:
		r.log.Info("registered", "outcome", hb.Outcome, "revision", hb.Revision, "ttl", r.ttl)
		r.registered <- hb
	case r.state == registrationDisplaced:
		r.log.Info("the other registration is gone; registered again", "revision", hb.Revision)
	case hb.Outcome != match.Unchanged:
		r.log.Warn("the registration was lost; registered again", "revision", hb.Revision)
	case r.state != registrationHeld:
		r.log.Info("etcd can be used again; still registered", "revision", hb.Revision)
	}
	r.granted = []clientv3.LeaseID{hb.Lease}
	r.held, r.state = true, registrationHeld
	if r.weight != hb.weight {
		r.log.Info("the weight was set", "weight", cmp.Or(hb.weight, r.instance.Weight), "registered_with", r.instance.Weight)
		r.weight = hb.weight
	}
}

// displaced notes that another registration has written the instance.
func (r *Registration) displaced() {
	if r.state != registrationDisplaced {
		r.log.Warn("another registration has this address now; it stays until that one is gone")
	}
	r.state = registrationDisplaced
}

// failed notes a heartbeat that failed, unless that was because Run's ctx has ended.
func (r *Registration) failed(ctx context.Context, err error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	if r.state != registrationPending || !r.held && r.retry == minHeartbeatRetry {
		within := min(r.ttl/20, time.Second) // short, because the next heartbeat waits for the cause
		r.log.Warn("cannot register in etcd; trying on", "error", etcdclient.UnansweredCause(context.WithoutCancel(ctx), r.store.cli, err, within))
	}
	r.state = registrationPending
}

// leave deregisters the instance by revoking its leases. A heartbeat that was cut short by the end of ctx may still reach
// etcd, but has no effect without its lease.
func (r *Registration) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if len(r.granted) == 0 {
		return
	}
	for {
		err := r.tryLeave(ctx)
		if err == nil {
			r.log.Info("deregistered", "left_to_another", r.state == registrationDisplaced)
			return
		}
		select {
		case <-ctx.Done():
			r.log.Warn("cannot deregister; the lease will run out", "ttl", r.ttl, "error", err)
			return
		case <-time.After(minHeartbeatRetry):
		}
	}
}

func (r *Registration) tryLeave(ctx context.Context) error {
	in := r.instance
	in.Weight = cmp.Or(r.weight, in.Weight)
	for len(r.granted) > 0 {
		r.store.sayLeaving(ctx, r.service, in, r.granted[0])
		// etcd deletes the instance with the lease, if it is still on it.
		if _, err := r.store.cli.Revoke(ctx, r.granted[0]); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return err
		}
		r.granted = r.granted[1:]
	}
	return nil
}
