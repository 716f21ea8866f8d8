package cluster

import (
	"sync"
	"time"

	"github.com/framegate/framegate/pool/policy"
)

// EndpointHooks are called when endpoints leave. Each function may be nil. They are called without locks, by several
// goroutines at once, and maybe late: the address may be an endpoint again by then. They must not call the Resolver's Close,
// which waits for them.
type EndpointHooks struct {
	Left  func(address string) // the address is an endpoint of no backend any more
	Grace time.Duration        // from Left to Over; see Set.SetGrace
	Over  func(address string) // Grace has passed since the address left, and it did not come back

	Unused func(*policy.Policy) // no backend of a route has an equal policy any more
}

// endpointTracker counts the clusters that have an address as an endpoint, and calls the hooks when none has it any more:
//
//	present ── the last cluster loses it ──> leaving ── Grace passes ──> forgotten
//	   ^                                      │
//	   └───────── a cluster has it again ───────┘
//
// The set's mu guards all of it.
type endpointTracker struct {
	mu    *sync.Mutex // the set's
	hooks EndpointHooks

	clusters    map[string]int        // by address: how many clusters have it
	unreachable map[string]error      // by address, of those that cannot be connected to: why
	lost        map[string]bool       // addresses that no cluster has any more, until unlock
	leaving     map[string]*departure // by address
	unused      []*policy.Policy      // to be passed to hooks.Unused by unlock
	telling     sync.WaitGroup        // calls of hooks under way
	closed      bool
}

// departure is the time of grace of an address that has left.
type departure struct{ timer *time.Timer }

func newEndpointTracker(mu *sync.Mutex) *endpointTracker {
	return &endpointTracker{mu: mu, clusters: map[string]int{}, unreachable: map[string]error{}, lost: map[string]bool{}, leaving: map[string]*departure{}}
}

// came notes that one more cluster has the addresses.
func (p *endpointTracker) came(addresses []string) {
	for _, address := range addresses {
		p.clusters[address]++
		delete(p.lost, address)
		if d := p.leaving[address]; d != nil {
			d.timer.Stop()
			delete(p.leaving, address)
		}
	}
}

// gone notes that one cluster has the addresses no more. The hooks are called by unlock, at the end of the change, because an
// address may go from one cluster to another within one change.
func (p *endpointTracker) gone(addresses []string) {
	for _, address := range addresses {
		if p.clusters[address]--; p.clusters[address] == 0 {
			delete(p.clusters, address)
			p.lost[address] = true
		}
	}
}

// unlock unlocks the set's mu at the end of a change, and calls the hooks for the endpoints that have left.
func (p *endpointTracker) unlock() {
	lost, unused := p.lost, p.unused
	p.unused = nil
	if p.closed || len(lost)+len(unused) == 0 {
		p.mu.Unlock()
		return
	}
	p.lost = map[string]bool{}
	for address := range lost {
		delete(p.unreachable, address)
		d := &departure{}
		d.timer = time.AfterFunc(p.hooks.Grace, func() { p.over(address, d) })
		p.leaving[address] = d
	}
	p.telling.Add(1)
	defer p.telling.Done()
	p.mu.Unlock()
	if p.hooks.Left != nil {
		for address := range lost {
			p.hooks.Left(address)
		}
	}
	if p.hooks.Unused != nil {
		for _, policy := range unused {
			p.hooks.Unused(policy)
		}
	}
}

// over ends a departure: it calls the hook, unless the address came back meanwhile.
func (p *endpointTracker) over(address string, d *departure) {
	p.mu.Lock()
	if p.leaving[address] != d {
		p.mu.Unlock()
		return
	}
	delete(p.leaving, address)
	p.telling.Add(1)
	defer p.telling.Done()
	p.mu.Unlock()
	if p.hooks.Over != nil {
		p.hooks.Over(address)
	}
}

// close ends all departures without calling the hooks.
func (p *endpointTracker) close() {
	p.closed = true
	for _, d := range p.leaving {
		d.timer.Stop()
	}
	clear(p.leaving)
}
