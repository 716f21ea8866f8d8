package resolver

import (
	"math/rand/v2"
	"sort"
)

// balancer chooses among a route's endpoints at random, by weight: an endpoint's share is its backend's share of the
// weights of the backends that have endpoints, times its own share of that backend's weights.
type balancer struct {
	backends []weightedBackend     // those with a weight
	total    uint64                // of their weights
	named    map[string]*endpoints // of all that have a name
}

type weightedBackend struct {
	name      string
	weight    uint64
	upTo      uint64     // sum of the weights up to and with this one
	endpoints *endpoints // source of its endpoints
}

func newBalancer(backends []Backend, s *services) *balancer {
	b := &balancer{}
	for _, doc := range backends {
		e := s.endpointsOf(doc)
		if doc.Name != "" {
			if b.named == nil {
				b.named = make(map[string]*endpoints, len(backends))
			}
			b.named[doc.Name] = e
		}
		w := weightOf(doc.Weight)
		if w <= 0 {
			continue
		}
		b.total += uint64(w)
		b.backends = append(b.backends, weightedBackend{name: doc.Name, weight: uint64(w), upTo: b.total, endpoints: e})
	}
	return b
}

// pick returns the address that a call gets and the name of its backend; the address is empty if no endpoint may be
// used. It does not allocate.
func (b *balancer) pick() (backend, address string) {
	if len(b.backends) == 0 {
		return "", ""
	}
	wb := &b.backends[0]
	if len(b.backends) > 1 {
		n := rand.Uint64N(b.total)
		wb = &b.backends[sort.Search(len(b.backends), func(i int) bool { return n < b.backends[i].upTo })]
	}
	if address = wb.endpoints.Load().pick(); address == "" && len(b.backends) > 1 {
		return b.pickOther()
	}
	return wb.name, address
}

// pickOther chooses among the backends that have endpoints.
func (b *balancer) pickOther() (backend, address string) {
	var total uint64
	for i := range b.backends {
		a := b.backends[i].endpoints.Load().pick()
		if a == "" {
			continue
		}
		// Each replaces the choice so far with the share that it has of the weights seen: one pass, no list.
		total += b.backends[i].weight
		if rand.Uint64N(total) < b.backends[i].weight {
			backend, address = b.backends[i].name, a
		}
	}
	return backend, address
}

// endpointSet has the endpoints of a backend that take calls. It is immutable.
type endpointSet struct {
	list  []weightedEndpoint
	total uint64 // of the weights
}

type weightedEndpoint struct {
	upTo    uint64 // sum of the weights up to and with this one
	address string
}

func (s *endpointSet) add(address string, weight int) {
	if weight > 0 {
		s.total += uint64(weight)
		s.list = append(s.list, weightedEndpoint{upTo: s.total, address: address})
	}
}

// pick returns an address, or "" if there is none.
func (s *endpointSet) pick() string {
	switch len(s.list) {
	case 0:
		return ""
	case 1:
		return s.list[0].address
	}
	n := rand.Uint64N(s.total)
	return s.list[sort.Search(len(s.list), func(i int) bool { return n < s.list[i].upTo })].address
}
