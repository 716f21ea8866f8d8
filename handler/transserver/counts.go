package transserver

import (
	"sync"
	"sync/atomic"
	"time"
)

// counts are the counts of an Acceptor.
type counts struct {
	open     atomic.Int64                // connections
	refused  atomic.Int64                // connections
	away     [len(offences)]atomic.Int64 // connections ended for an offence, in the order of offences
	refusals noise                       // log lines about refused connections
	offences noise                       // log lines about offences
}

// offence returns the count of the connections ended for o.
func (c *counts) offence(o *Offence) *atomic.Int64 {
	for i := range offences {
		if offences[i] == o {
			return &c.away[i]
		}
	}
	return new(atomic.Int64) // not reached: offences has them all
}

// Stats are the counts of an Acceptor.
type Stats struct {
	Connections int              // that are open
	Refused     int64            // connections over MaxConnections or the limit of open files, since the start
	SentAway    map[string]int64 // connections ended for an offence, by Offence.Name, since the start
}

// Stats returns the counts of the acceptor.
func (a *Acceptor) Stats() Stats {
	st := Stats{Connections: int(a.counts.open.Load()), Refused: a.counts.refused.Load(), SentAway: make(map[string]int64, len(offences))}
	for _, o := range offences {
		st.SentAway[o.Name] = a.counts.offence(o).Load()
	}
	return st
}

// noise limits the log lines about an event that may come often to one a second.
type noise struct {
	mu     sync.Mutex // guards the fields below
	last   time.Time  // of the last line
	silent int        // events since the last line
}

// note counts an event, and reports whether to log now. times is the number of events since the last line, this one included.
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
