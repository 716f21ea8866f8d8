package pool

import "sync"

// Reach hears that no connection could be made to an endpoint, and none is left, or that one was made: with nil. It is told
// of changes only, one after the other, without a lock of the pool's.
type Reach func(address string, failure *DialError)

// reach tells what has changed, each address's last state if there were several meanwhile.
type reach struct {
	mu      sync.Mutex // guards the fields below
	hears   Reach      // nil for nobody
	changed map[string]*DialError
	telling bool // a goroutine of the pool is
}

// SetReach says who hears which endpoints can be connected to. It comes before the first Open.
func (p *Pool) SetReach(hears Reach) {
	p.reach.mu.Lock()
	defer p.reach.mu.Unlock()
	p.reach.hears, p.reach.changed = hears, map[string]*DialError{}
}

// reached notes that an endpoint can be connected to, if failure is nil, or that it cannot.
func (p *Pool) reached(address string, failure *DialError) {
	r := &p.reach
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hears == nil || p.ctx.Err() != nil {
		return
	}
	r.changed[address] = failure
	if !r.telling {
		r.telling = true
		p.wg.Go(p.tellReach)
	}
}

// tellReach tells all that has changed, and ends when there is nothing more to tell.
func (p *Pool) tellReach() {
	r := &p.reach
	for {
		r.mu.Lock()
		changed := r.changed
		r.changed = map[string]*DialError{}
		r.telling = len(changed) > 0 && p.ctx.Err() == nil
		goOn := r.telling
		r.mu.Unlock()
		if !goOn {
			return
		}
		for address, failure := range changed {
			r.hears(address, failure)
		}
	}
}

// reachLocked notes whether the endpoint can be connected to if that has changed. It comes before each unlock.
func (e *endpoint) reachLocked() {
	now := reachUnknown
	switch {
	case e.overLocked():
		return
	case len(*e.usable.Load()) > 0 && e.dial.failure == nil:
		now = reachable
	case len(*e.usable.Load()) == 0 && e.dial.failure != nil:
		now = unreachable
	}
	if now == reachUnknown || now == e.known {
		return
	}
	e.known = now
	e.group.pool.reached(e.addr, e.dial.failure)
}

// reachability is what was told last of an endpoint.
type reachability int

const (
	reachUnknown reachability = iota
	reachable
	unreachable
)
