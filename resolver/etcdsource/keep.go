package etcdsource

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/spec"
)

const (
	// lossWindow is the time within which instances of one service count as vanished together. When leases cannot be renewed
	// because of etcd, they all end within a third of their TTL, which is 20 s for registry-etcd's.
	lossWindow    = 30 * time.Second
	leaseQuestion = 1500 * time.Millisecond // for the members of etcd to say whether a lease exists
	keptCheck     = 2 * time.Second         // from one connection to a kept instance to the next
	keptTimeout   = time.Second             // of one connection
	keptRetry     = 200 * time.Millisecond  // from a connection that failed to the second try
	maxKeptChecks = 64                      // connections and questions for leases under way at once
	minSettleWait = 20 * time.Millisecond   // from one call of settle to the next
)

// keeper decides which instances are in force: those that are registered, and those that vanished from etcd and are kept
// because the fault seems to be etcd's and not theirs. What becomes of an instance that vanished:
//
//	          ┌──it deregistered, had no lease, or its lease exists───> gone
//	vanished ─┤                       ┌──neither──────────────────────> lost ──others follow──> checked ──connects──> kept
//	          └──its lease has ended──┤
//	                                  └──etcd in trouble, or most of ──> kept ──no connection, or keepFor is over──> gone
//	                                     the service's instances lost
//
// An instance that registers again leaves these states. A vanished instance stays in force while etcd is asked for its lease.
// If no member of etcd answers, the lease is taken as ended, and etcd is asked again while the instance is kept.
type keeper struct {
	// set once
	keepFor time.Duration // from when an instance vanished; 0 keeps nothing
	publish func(service string, instances []spec.Instance)
	refusal func(address string) string // why an address gets no calls; "" if it may get some
	dialer  net.Dialer                  // refuses the addresses that refusal refuses
	reach   *reachability
	log     *slog.Logger
	checks  chan struct{} // has a slot for each connection or question under way
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu         sync.Mutex // guards what follows
	cli        *clientv3.Client
	registered map[string]map[string]spec.Instance // by service and name
	noted      map[string]departed                 // by name; instances that were deleted, until apply hears of it
	vanished   losses
	unsettled  map[string]bool // services to be judged and published by the next settle
	settling   bool            // settle is about to be called
	next       time.Time       // when settle may be called again
	ever       int64           // instances that were kept since the start
}

// departed is what was known of an instance when it was deleted.
type departed struct {
	lease   int64 // that it was attached to; 0 for none
	leaving bool  // it had announced that it deregisters
}

// KeptInstance is an instance that is not registered any more and still gets calls.
type KeptInstance struct {
	Service string    `json:"service"`
	Address string    `json:"address"`
	Since   time.Time `json:"since"` // when it vanished
	Until   time.Time `json:"until"` // when it goes, if it does not register again
}

func newKeeper(keepFor time.Duration, reach *reachability, log *slog.Logger, r *resolver.Resolver) *keeper {
	k := &keeper{
		keepFor: keepFor, publish: r.SetInstances, refusal: r.Refusal, reach: reach, log: log, checks: make(chan struct{}, maxKeptChecks),
		registered: map[string]map[string]spec.Instance{}, noted: map[string]departed{}, vanished: newLosses(), unsettled: map[string]bool{},
	}
	k.dialer.Control = k.control
	k.ctx, k.cancel = context.WithCancel(context.Background())
	return k
}

// errNotAllowed means that an address gets no calls.
var errNotAllowed = errors.New("not allowed")

// control implements net.Dialer.Control. It refuses again once a host name was looked up, because its address may be one
// that gets no calls.
func (k *keeper) control(network, address string, _ syscall.RawConn) error {
	if network == "unix" {
		address = spec.UnixPrefix + address
	}
	if reason := k.refusal(address); reason != "" {
		return fmt.Errorf("%w: %s", errNotAllowed, reason)
	}
	return nil
}

// close ends the keeper's goroutines and waits for them. The instances in force stay.
func (k *keeper) close() {
	k.cancel()
	k.wg.Wait()
}

// setClient gives the client that leases are asked for with.
func (k *keeper) setClient(cli *clientv3.Client) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cli = cli
}

// note is called with each instance that is deleted, before apply is.
func (k *keeper) note(name string, d *document[spec.Instance]) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.noted[name] = departed{lease: d.lease, leaving: etcdstore.NotesOf(d.raw).Leaving}
}

// apply puts changes in force: instances by name, nil for an instance that is registered no more.
func (k *keeper) apply(changed map[string]*spec.Instance) {
	k.mu.Lock()
	defer k.mu.Unlock()
	services := map[string]bool{}
	for name, in := range changed {
		services[etcdstore.ServiceOf(name)] = true
		if in == nil {
			k.lose(name)
		}
	}
	for name, in := range changed {
		if in != nil {
			k.register(name, *in, services)
		}
	}
	for service := range services {
		k.publishLocked(service)
	}
}

// lose notes that an instance is registered no more, and begins to ask etcd for its lease if the instance may be kept.
func (k *keeper) lose(name string) {
	service, note := etcdstore.ServiceOf(name), k.noted[name]
	in, there := k.registered[service][name]
	delete(k.noted, name)
	delete(k.registered[service], name)
	if !there || k.keepFor == 0 || note.leaving || note.lease == 0 || k.ctx.Err() != nil || k.refusal(in.Address) != "" {
		return
	}
	v := &vanished{name: name, service: service, Instance: in, at: time.Now(), lease: note.lease}
	k.vanished.add(v)
	k.start(v, func(ctx context.Context) { k.ask(ctx, v) })
}

// register notes that an instance is registered. Vanished instances with its name or its address are forgotten, since that
// address may belong to another service now. It adds their services to services.
func (k *keeper) register(name string, in spec.Instance, services map[string]bool) {
	service := etcdstore.ServiceOf(name)
	if k.registered[service] == nil {
		k.registered[service] = map[string]spec.Instance{}
	}
	k.registered[service][name] = in
	delete(k.noted, name)
	for _, v := range k.vanished.at(name, in.Address) {
		k.vanished.remove(v)
		services[v.service] = true
	}
}

// start runs do in a goroutine until v.end is called, or the keeper is closed.
func (k *keeper) start(v *vanished, do func(context.Context)) {
	ctx, cancel := context.WithCancel(k.ctx)
	v.end = cancel
	k.wg.Go(func() { defer cancel(); do(ctx) })
}

// settleSoon has settle judge and publish a service: at once, or together with others if settle was called a moment ago.
// k.mu is held.
func (k *keeper) settleSoon(service string) {
	k.unsettled[service] = true
	if k.settling {
		return
	}
	k.settling = true
	wait := time.Until(k.next)
	k.wg.Go(func() {
		select {
		case <-time.After(wait):
			k.settle()
		case <-k.ctx.Done():
		}
	})
}

// settle judges and publishes the unsettled services.
func (k *keeper) settle() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ctx.Err() != nil {
		return
	}
	began := time.Now()
	for service := range k.unsettled {
		k.judge(service)
		k.publishLocked(service)
	}
	clear(k.unsettled)
	k.settling = false
	k.next = time.Now().Add(min(max(minSettleWait, applyShare*time.Since(began)), maxApplyWait))
}

// publishLocked puts the registered instances of a service in force, and the vanished ones that are members.
func (k *keeper) publishLocked(service string) {
	all := slices.Collect(maps.Values(k.registered[service]))
	for v := range k.vanished.byService[service] {
		if v.member() {
			all = append(all, v.Instance)
		}
	}
	if len(k.registered[service]) == 0 {
		delete(k.registered, service)
	}
	k.publish(service, all)
}

// ask finds out whether the lease of an instance has ended. If the lease exists, somebody deleted the instance, which then
// goes.
func (k *keeper) ask(ctx context.Context, v *vanished) {
	there, known := k.leaseIsThere(ctx, v.lease)
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.vanished.has(v) || k.ctx.Err() != nil {
		return
	}
	if v.ended, v.open = !there, !known; there {
		k.vanished.remove(v)
	}
	k.settleSoon(v.service)
}

// leaseIsThere asks the members of etcd whether a lease exists. known is false if none answers.
func (k *keeper) leaseIsThere(ctx context.Context, id int64) (there, known bool) {
	k.mu.Lock()
	cli := k.cli
	k.mu.Unlock()
	if cli == nil || id == unknownLease || !k.takeTurn(ctx) {
		return false, true
	}
	defer func() { <-k.checks }()
	q := etcdclient.Question{Within: leaseQuestion, Patience: etcdclient.NextMember, Max: etcdclient.MaxAsked}
	there, err := etcdclient.AskMembers(clientv3.WithRequireLeader(ctx), q, func(ctx context.Context) (bool, error) {
		resp, err := cli.TimeToLive(ctx, clientv3.LeaseID(id))
		return err == nil && resp.TTL > 0, err
	})
	if err != nil && !etcdclient.IsRefused(err) {
		if ctx.Err() == nil {
			k.reach.noteTrouble()
		}
		return false, false
	}
	return there, true
}

// takeTurn takes a slot of k.checks, which the caller gives back. It waits for one, and reports false if ctx ended before.
func (k *keeper) takeTurn(ctx context.Context) bool {
	select {
	case k.checks <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// judge decides what becomes of the instances of a service whose leases have ended, and of those that were lost within
// lossWindow. It decides nothing while etcd is still being asked for the lease of any instance of the service.
func (k *keeper) judge(service string) {
	var ended, lost []*vanished
	gone := 0
	for v := range k.vanished.byService[service] {
		switch {
		case v.state == vanishedAsked && !v.ended:
			return
		case v.state == vanishedAsked:
			ended = append(ended, v)
		case v.state == vanishedLost:
			lost = append(lost, v)
		}
		gone++
	}
	if len(ended) == 0 {
		return
	}
	reason := ""
	switch {
	case k.reach.inTrouble():
		reason = "etcd is in trouble, or was a moment ago"
	case 2*gone > gone+len(k.registered[service]):
		reason = "most of the service vanished within a moment, and did not deregister"
	default:
		for _, v := range ended {
			k.setLost(v)
		}
		k.log.Info("leases of instances have ended", "service", service, "instances", len(ended), "left", len(k.registered[service]))
		return
	}
	k.log.Warn("instances vanished that may be well: they are kept while they take connections", "service", service,
		"instances", len(ended)+len(lost), "left", len(k.registered[service]), "reason", reason, "for", k.keepFor)
	k.ever += int64(len(ended))
	for _, v := range ended {
		v.state = vanishedKept // without a check first, because it is still a member
	}
	for _, v := range lost {
		v.state = vanishedChecked
	}
	for _, v := range append(ended, lost...) {
		v.end()
		k.start(v, func(ctx context.Context) { k.hold(ctx, v) })
	}
}

// setLost takes an instance out of the members. The keeper remembers it for lossWindow: if more of the service follow, it
// may come back.
func (k *keeper) setLost(v *vanished) {
	v.state = vanishedLost
	forgotten := time.AfterFunc(time.Until(v.at.Add(lossWindow)), func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if v.state == vanishedLost && k.vanished.has(v) {
			k.vanished.remove(v)
		}
	})
	v.end = func() { forgotten.Stop() }
}

// kept returns the instances that are kept, sorted by service and address, and how many were kept since the start.
func (k *keeper) kept() (now []KeptInstance, ever int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, v := range k.vanished.byName {
		if v.state == vanishedKept {
			now = append(now, KeptInstance{Service: v.service, Address: v.Address, Since: v.at, Until: v.at.Add(k.keepFor)})
		}
	}
	slices.SortFunc(now, func(a, b KeptInstance) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Address, b.Address))
	})
	return now, k.ever
}
