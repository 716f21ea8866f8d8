package relay

import "slices"

// endpoints are the connections to endpoints of a shard, whose mu guards them.
type endpoints struct {
	all  []*socket
	next int // to be asked
}

// maxAsked is how many endpoints take asks.
const maxAsked = 8

// take reads once what endpoints have sent, of maxAsked of them, each in turn. Nothing of shard.input is in use.
func (e *endpoints) take() {
	for range min(len(e.all), maxAsked) {
		e.next = (e.next + 1) % len(e.all)
		if k := e.all[e.next]; k.h2.Streams() > 0 && k.h2.Failure() == nil && !k.shut {
			_ = k.raw.Control(k.readNow)
		}
	}
}

func (e *endpoints) add(k *socket) { e.all = append(e.all, k) }

// remove removes k, unless it is a connection to the Kitex server, which was not added.
func (e *endpoints) remove(k *socket) {
	if i := slices.Index(e.all, k); i >= 0 {
		e.all = slices.Delete(e.all, i, i+1)
	}
}
