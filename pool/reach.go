package pool

import "sync"

// Reach is called when an endpoint becomes unreachable, because it has no connection and a dial failed with failure, or when
// it becomes reachable again, with a nil failure. It is called for changes only, one at a time, and without a lock of the
// pool.
type Reach func(address string, failure *DialError)

// reach calls a Reach in a goroutine of the pool. Of several changes of an address that come while the Reach runs, it
// reports the last.
type reach struct {
	mu      sync.Mutex            // guards the fields below
	report  Reach                 // nil for none
	changed map[string]*DialError // changes that are not reported yet, by address
	telling bool                  // tellReach runs
}

// SetReach sets the function that is called when an endpoint becomes unreachable or reachable. It must be called before the
// first Open.
func (p *Pool) SetReach(report Reach) {
	p.reach.mu.Lock()
	defer p.reach.mu.Unlock()
	p.reach.report, p.reach.changed = report, map[string]*DialError{}
}

// reached records that an endpoint is reachable, if failure is nil, or unreachable, and has it reported.
func (p *Pool) reached(address string, failure *DialError) {
	r := &p.reach
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.report == nil || p.ctx.Err() != nil {
		return
	}
	r.changed[address] = failure
	if !r.telling {
		r.telling = true
		p.wg.Go(p.tellReach)
	}
}

// tellReach is the goroutine that reports changes. It ends when there are none.
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
			r.report(address, failure)
		}
	}
}

// reachLocked reports the endpoint as reachable or unreachable if that has changed. unlock calls it each time.
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

// reachability is what was last reported of an endpoint.
type reachability int

const (
	reachUnknown reachability = iota // nothing was
	reachable
	unreachable
)
