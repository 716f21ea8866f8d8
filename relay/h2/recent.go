package h2

// recentIDs remembers how the last streams of a connection ended, because frames for them may be under way (RFC 9113 §5.1).
type recentIDs struct {
	ids  []recentID // the newest before next; nil before the first
	next int
}

type recentID struct {
	id  uint32
	how outcome
}

// outcome is how a stream ended.
type outcome uint8

const (
	unknown   outcome = iota // it never was, or long ago
	wasEnded                 // both directions have ended
	wasReset                 // this end has reset it
	peerReset                // the peer has reset it
)

// manyRecent is how many streams are remembered.
const manyRecent = 32

func (r *recentIDs) add(id uint32, how outcome) {
	if len(r.ids) < manyRecent {
		r.ids = append(r.ids, recentID{id, how})
		return
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
	return unknown
}
