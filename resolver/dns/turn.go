package dns

import "time"

// turns bounds how many names are looked up at once. Each kind of name has a bound of its own, so that names whose servers
// answer do not wait for names whose servers do not. A kind that may be slow has a low bound, or little patience.
//
//	not looked up yet ──> fresh ──┬─ took no long time ───────> quick
//	                              └─ did, it has addresses ───> slow
//	                              └─ did, it has none ────────> silent
type turns struct{ fresh, quick, slow, silent turn }

// turn bounds the look-ups of one kind of name.
type turn struct {
	slots    chan struct{} // has one for each look-up under way
	patience time.Duration // how long one question to the system's resolver may take
}

// The system's resolver gives up within longPatience as a rule, even if it asks a second server. A look-up that takes
// shortPatience is a slow one.
const (
	longPatience   = 15 * time.Second
	shortPatience  = time.Second
	familyPatience = 5 * time.Second // for the addresses of one family
)

func newTurns() turns {
	return turns{
		fresh:  turn{make(chan struct{}, 64), shortPatience},
		quick:  turn{make(chan struct{}, 128), shortPatience},
		slow:   turn{make(chan struct{}, 64), longPatience},
		silent: turn{make(chan struct{}, 32), longPatience},
	}
}

// of returns the turn for the next look-up of a name. known is its last answer, and took is how long that look-up took.
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
