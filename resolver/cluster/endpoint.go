package cluster

import (
	"cmp"
	"slices"
	"time"
)

// Endpoint is an endpoint of a call's backend that takes calls, as it was when the call asked for it.
type Endpoint struct {
	picker *picker
	member *member
	up     bool
}

// Address returns the endpoint's address: host:port or unix:/path.
func (e Endpoint) Address() string { return e.member.host.Address() }

// Node returns the endpoint's tag node, or else its address.
func (e Endpoint) Node() string { return cmp.Or(e.member.node, e.Address()) }

// Up reports whether calls may go to the endpoint: it is not unhealthy or ejected, or so many are that calls go to all.
func (e Endpoint) Up() bool { return e.up }

// Endpoints are the endpoints of a backend that take calls, as they were when a call asked for them.
type Endpoints struct{ of *choice }

// All returns the endpoints by address. The caller must not change them.
func (e Endpoints) All() []Endpoint { return e.of.all }

// Find returns the endpoint that a name stands for: its tag node or, if no endpoint has that, its address. Of several with one
// tag it is the one whose address sorts first.
func (e Endpoints) Find(name string) (Endpoint, bool) {
	e.of.index.Do(func() {
		e.of.byName = make(map[string]Endpoint, 2*len(e.of.all))
		for _, one := range e.of.all {
			e.of.byName[one.Address()] = one
		}
		for _, one := range slices.Backward(e.of.all) {
			if one.member.node != "" {
				e.of.byName[one.member.node] = one
			}
		}
	})
	one, ok := e.of.byName[name]
	return one, ok
}

// Endpoints returns the endpoints of the call's backend, which it chooses if that has not been done. The error is
// ErrNoEndpoint if the route has no backend with a weight.
func (t *Target) Endpoints() (Endpoints, error) {
	if t.backends != nil && t.backend == nil {
		if b := t.backends.draw(); b != nil {
			t.choose(b)
		}
	}
	if t.backend == nil {
		return Endpoints{}, ErrNoEndpoint
	}
	return Endpoints{t.backend.picker.current.Load()}, nil
}

// PickEndpoint returns the endpoint that the balancer chooses among those of the call's backend. It counts nothing.
func (t *Target) PickEndpoint() (Endpoint, error) {
	if err := t.ChooseBackend(); err != nil || t.backends == nil {
		return Endpoint{}, cmp.Or(err, ErrNoEndpoint)
	}
	p := t.backend.picker
	if host := p.current.Load().Pick(t.key, nil); host != nil {
		return Endpoint{p, host.Owner.(*member), true}, nil
	}
	return Endpoint{}, ErrNoEndpoint
}

// At returns the Target of a part of the call that goes to an endpoint of its backend, and nowhere else. The part does not
// count against the limits of the route, which the call itself does, but against those of the backend.
func (t *Target) At(e Endpoint) Target {
	part := t.Aside()
	part.pinned = &e
	return part
}

// pickPinned is Pick for a part of a call that goes to one endpoint.
func (t *Target) pickPinned(now time.Time) (Attempt, error) {
	e := t.pinned
	if !e.up {
		return Attempt{}, ErrNoEndpoint
	}
	e.member.host.Begin()
	t.Address, t.Name = e.Address(), e.member.name
	again := t.attempts > 0
	t.attempts = 1
	return Attempt{Address: t.Address, Began: now, Again: again, picker: e.picker, member: e.member}, nil
}

// maxTargetsShown is how many targets of a backend are named.
const maxTargetsShown = 50

// Targets returns for people the names of the endpoints of the backends with a weight, which calls with a fan-out go to.
func (b *Backends) Targets() (names []string) {
	for _, d := range b.drawn {
		for _, e := range d.picker.current.Load().all {
			name := e.Node()
			if name != e.Address() {
				name += " (" + e.Address() + ")"
			}
			if !e.Up() {
				name += ", down"
			}
			if names = append(names, name); len(names) == maxTargetsShown {
				return append(names, "...")
			}
		}
	}
	return names
}
