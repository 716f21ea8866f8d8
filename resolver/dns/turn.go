package dns

import "time"

// turns say how many names are looked up at once. Names that get answers do not wait for those that do not: each kind has
// turns of its own, and a kind that may be slow has a few, or little patience.
//
//	not looked up yet ──> fresh ──┬─ took no long time ───────> quick
//	                              └─ did, it has addresses ───> slow
//	                              └─ did, it has none ────────> silent
type turns struct{ fresh, quick, slow, silent turn }

// turn is taken by the look-ups under way of a kind of names.
type turn struct {
	slots    chan struct{}
	patience time.Duration // with one question
}

// Questions to the system's resolver, which gives up before longPatience as a rule though it may have to ask a second
// server. What takes shortPatience has taken a long time.
const (
	longPatience   = 15 * time.Second
	shortPatience  = time.Second
	familyPatience = 5 * time.Second // with the answer for one family
)

func newTurns() turns {
	return turns{
		fresh:  turn{make(chan struct{}, 64), shortPatience},
		quick:  turn{make(chan struct{}, 128), shortPatience},
		slow:   turn{make(chan struct{}, 64), longPatience},
		silent: turn{make(chan struct{}, 32), longPatience},
	}
}

// of returns the turn of a name of which that is known, and whose last look-up took so long.
func (t *turns) of(known Answer, took time.Duration) turn {
	switch {
	case !known.Asked:
		return t.fresh
	case took < shortPatience:
		return t.quick
	case len(known.Addresses) > 0:
		return t.slow
	}
	return t.silent
}
