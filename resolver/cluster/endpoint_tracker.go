package cluster

import (
	"sync"
	"time"

	"github.com/framegate/framegate/pool/policy"
)

// EndpointHooks hears of endpoints that leave. Its functions, each of which may be nil, are called without locks, by several
// goroutines at once, and may come late: the address may be back by then. They must not call the Resolver's Close, which
// waits for them.
type EndpointHooks struct {
	Left  func(address string) // the address is no endpoint of any backend any more
	Grace time.Duration        // see Resolver.SetGrace
	Over  func(address string) // Grace after it left, unless it came back

	Unused func(*policy.Policy) // no backend of a route has a policy that equals this one any more
}

// endpointTracker knows in how many clusters an address is an endpoint, and tells when that is none any longer:
//
//	present ── the last cluster loses it ──> leaving ── Grace passes ──> forgotten
//	   ^                                      │
//	   └───────── a cluster has it again ───────┘
//
// The set's mu guards all of it.
type endpointTracker struct {
	mu    *sync.Mutex // the Resolver's
	hooks EndpointHooks

	clusters    map[string]int   // that have the address
	unreachable map[string]error // of the addresses that cannot be connected to, why
	lost        map[string]bool
	leaving     map[string]*departure
	unused      []*policy.Policy // that nobody was told of
	telling     sync.WaitGroup   // calls of the functions of hears
	closed      bool
}

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

// gone notes that one cluster has the addresses no more. What that means is told by unlock: in one change an address may
// go from one cluster to another.
func (p *endpointTracker) gone(addresses []string) {
	for _, address := range addresses {
		if p.clusters[address]--; p.clusters[address] == 0 {
			delete(p.clusters, address)
			p.lost[address] = true
		}
	}
}

// unlock unlocks the set's mu at the end of a change, and tells which endpoints have left.
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

// over ends a departure, unless it is no longer the address's.
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

// close ends all departures. Nobody hears of them.
func (p *endpointTracker) close() {
	p.closed = true
	for _, d := range p.leaving {
		d.timer.Stop()
	}
	clear(p.leaving)
}
