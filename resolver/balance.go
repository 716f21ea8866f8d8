package resolver

import (
	"math/rand/v2"
	"sort"
)

// balancer chooses among a route's endpoints at random, by weight: an endpoint's share is its backend's share of the
// backends' weights times its own share of that backend's weights. It is immutable.
type balancer struct {
	backends []weightedBackend
	total    uint64 // of the backends' weights
}

type weightedBackend struct {
	upTo      uint64 // sum of the weights up to and with this one
	total     uint64 // of the endpoints' weights
	endpoints []weightedEndpoint
	name      string
}

type weightedEndpoint struct {
	upTo    uint64
	address string
}

func newBalancer(backends []Backend) *balancer {
	b := &balancer{}
	for _, doc := range backends {
		wb := weightedBackend{name: doc.Name}
		for _, e := range doc.Endpoints {
			if w := weightOf(e.Weight); w > 0 {
				wb.total += uint64(w)
				wb.endpoints = append(wb.endpoints, weightedEndpoint{upTo: wb.total, address: e.Address})
			}
		}
		if w := weightOf(doc.Weight); w > 0 && len(wb.endpoints) > 0 {
			b.total += uint64(w)
			wb.upTo = b.total
			b.backends = append(b.backends, wb)
		}
	}
	return b
}

// pick returns the address that a call gets and false if no endpoint may be used. It does not allocate.
func (b *balancer) pick() (backend, address string, ok bool) {
	if len(b.backends) == 0 {
		return "", "", false
	}
	wb := &b.backends[0]
	if len(b.backends) > 1 {
		n := rand.Uint64N(b.total)
		wb = &b.backends[sort.Search(len(b.backends), func(i int) bool { return n < b.backends[i].upTo })]
	}
	if len(wb.endpoints) == 1 {
		return wb.name, wb.endpoints[0].address, true
	}
	n := rand.Uint64N(wb.total)
	return wb.name, wb.endpoints[sort.Search(len(wb.endpoints), func(i int) bool { return n < wb.endpoints[i].upTo })].address, true
}
