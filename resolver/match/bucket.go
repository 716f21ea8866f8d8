package match

import (
	"math"

	"github.com/framegate/framegate/resolver/spec"
)

// bucket has the candidates of one prefix (see Pattern) on one listener. It is immutable once finished.
type bucket struct {
	list   []*candidate // strongest first, up to the first one without conditions
	parent *bucket      // of the next broader prefix that has a bucket
	above  int          // highest priority in this bucket and its parents
	index  *index       // of list; nil for a short one
	closed bool         // list ends with a candidate without conditions
}

// indexFrom is the number of candidates from which an index is faster than comparing the call with each.
const indexFrom = 9

func newBucket() *bucket { return &bucket{above: math.MinInt} }

// add appends a candidate, which is weaker than those before.
func (b *bucket) add(c *candidate) {
	if b.closed {
		return // the last candidate takes every call
	}
	b.list = append(b.list, c)
	b.closed = c.conditions() == 0
}

func (b *bucket) under(parent *bucket) { b.parent = parent }

// finish sets above and index. It is called when all buckets have their candidates and parents.
func (b *bucket) finish() {
	for up := b; up != nil; up = up.parent {
		b.above = max(b.above, up.list[0].route.Priority)
	}
	if len(b.list) >= indexFrom {
		b.index = newIndex(b.list)
	}
}

// find returns the strongest candidate that the call meets and whose priority is above floor, or nil.
func (b *bucket) find(req *spec.Request, floor int) *candidate {
	if b.index != nil && len(req.Authority) <= maxIndexedAuthority {
		if c := b.index.find(req); c != nil && c.route.Priority > floor {
			return c
		}
		return nil
	}
	for _, c := range b.list {
		if c.route.Priority <= floor {
			return nil
		}
		if c.meets(req) {
			return c
		}
	}
	return nil
}
