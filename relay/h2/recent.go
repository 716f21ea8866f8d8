package h2

// recentIDs remembers how the last streams of a connection ended, because frames for them may be under way (RFC 9113 §5.1).
type recentIDs struct {
	ids  []recentID // a ring when it has manyRecent
	next int        // the oldest

	// forgotten is the highest stream that this end has reset and that ids no longer has: of a stream that is not higher, it is
	// not known whether frames may still be under way.
	forgotten uint32
}

type recentID struct {
	id  uint32
	how outcome
}

// outcome is how a stream ended.
type outcome uint8

const (
	unknown   outcome = iota // it was left out, or has ended long ago
	idle                     // it was never opened
	wasEnded                 // both directions have ended
	wasReset                 // this end has reset it, so that frames may have been under way
	peerReset                // the peer has reset it
)

// manyRecent is how many streams are remembered.
const manyRecent = 32

func (r *recentIDs) add(id uint32, how outcome) {
	if len(r.ids) < manyRecent {
		r.ids = append(r.ids, recentID{id, how})
		return
	}
	if old := r.ids[r.next]; old.how == wasReset {
		r.forgotten = max(r.forgotten, old.id)
	}
	r.ids[r.next] = recentID{id, how}
	r.next = (r.next + 1) % manyRecent
}

func (r *recentIDs) get(id uint32) outcome {
	for i := range r.ids {
		if r.ids[i].id == id {
			return r.ids[i].how
		}
	}
	if id <= r.forgotten {
		return wasReset
	}
	return unknown
}
