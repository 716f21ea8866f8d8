package transserver

import (
	"sync"
	"sync/atomic"
	"time"
)

// counts are what an Acceptor counts.
type counts struct {
	open     atomic.Int64
	refused  atomic.Int64
	away     [len(offences)]atomic.Int64 // in the order of offences
	refusals noise
	offences noise
}

// offence returns the count of an offence.
func (c *counts) offence(o *Offence) *atomic.Int64 {
	for i := range offences {
		if offences[i] == o {
			return &c.away[i]
		}
	}
	return new(atomic.Int64) // there is no other
}

// Stats are what an Acceptor has counted.
type Stats struct {
	Connections int              // now
	Refused     int64            // connections over MaxConnections, since the start
	SentAway    map[string]int64 // clients, by Offence.Name, since the start
}

// Stats returns what was counted.
func (a *Acceptor) Stats() Stats {
	st := Stats{Connections: int(a.counts.open.Load()), Refused: a.counts.refused.Load(), SentAway: make(map[string]int64, len(offences))}
	for _, o := range offences {
		st.SentAway[o.Name] = a.counts.offence(o).Load()
	}
	return st
}

// noise keeps what may come often from filling the log: one line a second.
type noise struct {
	mu     sync.Mutex // guards the fields below
	last   time.Time  // when it was let through
	silent int        // since then
}

// note reports whether to log now, and how many times there were since the last time, this one included.
func (n *noise) note() (times int, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent++
	now := time.Now()
	if now.Sub(n.last) < time.Second {
		return 0, false
	}
	times, n.last, n.silent = n.silent, now, 0
	return times, true
}
