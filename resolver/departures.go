package resolver

import (
	"sync"
	"time"
)

// Departures hears of endpoints that leave. Its functions, each of which may be nil, are called without locks, by several
// goroutines at once, and may come late: the address may be back by then. They must not call the Resolver's Close, which
// waits for them.
type Departures struct {
	Left  func(address string) // the address is no endpoint of any backend any more
	Grace time.Duration        // see Resolver.SetGrace
	Over  func(address string) // Grace after it left, unless it came back

	Unused func(*PoolPolicy) // no backend of a route has a policy that equals this one any more
}

// presence knows in how many groups an address is an endpoint, and tells when that is none any longer:
//
//	present ── the last group loses it ──> leaving ── Grace passes ──> forgotten
//	   ^                                      │
//	   └───────── a group has it again ───────┘
//
// The Resolver's mu guards all of it.
type presence struct {
	mu    *sync.Mutex // the Resolver's
	hears Departures

	groups      map[string]int   // that have the address
	unreachable map[string]error // of the addresses that cannot be connected to, why
	lost        map[string]bool
	leaving     map[string]*departure
	unused      []*PoolPolicy  // that nobody was told of
	telling     sync.WaitGroup // calls of the functions of hears
	closed      bool
}

type departure struct{ timer *time.Timer }

func newPresence(mu *sync.Mutex) *presence {
	return &presence{mu: mu, groups: map[string]int{}, unreachable: map[string]error{}, lost: map[string]bool{}, leaving: map[string]*departure{}}
}

// came notes that one more group has the addresses.
func (p *presence) came(addresses []string) {
	for _, address := range addresses {
		p.groups[address]++
		delete(p.lost, address)
		if d := p.leaving[address]; d != nil {
			d.timer.Stop()
			delete(p.leaving, address)
		}
	}
}

// gone notes that one group has the addresses no more. What that means is told by unlock: in one change an address may
// go from one group to another.
func (p *presence) gone(addresses []string) {
	for _, address := range addresses {
		if p.groups[address]--; p.groups[address] == 0 {
			delete(p.groups, address)
			p.lost[address] = true
		}
	}
}

// unlock unlocks the Resolver's mu at the end of a change, and tells which endpoints have left.
func (p *presence) unlock() {
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
		d.timer = time.AfterFunc(p.hears.Grace, func() { p.over(address, d) })
		p.leaving[address] = d
	}
	p.telling.Add(1)
	defer p.telling.Done()
	p.mu.Unlock()
	if p.hears.Left != nil {
		for address := range lost {
			p.hears.Left(address)
		}
	}
	if p.hears.Unused != nil {
		for _, policy := range unused {
			p.hears.Unused(policy)
		}
	}
}

// over ends a departure, unless it is no longer the address's.
func (p *presence) over(address string, d *departure) {
	p.mu.Lock()
	if p.leaving[address] != d {
		p.mu.Unlock()
		return
	}
	delete(p.leaving, address)
	p.telling.Add(1)
	defer p.telling.Done()
	p.mu.Unlock()
	if p.hears.Over != nil {
		p.hears.Over(address)
	}
}

// close ends all departures. Nobody hears of them.
func (p *presence) close() {
	p.closed = true
	for _, d := range p.leaving {
		d.timer.Stop()
	}
	clear(p.leaving)
}
