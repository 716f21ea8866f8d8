package acceptor

import (
	"sync"
	"sync/atomic"
	"time"
)

// counts are the counts of an Acceptor.
type counts struct {
	open     atomic.Int64             // connections
	refused  atomic.Int64             // connections
	away     map[string]*atomic.Int64 // connections whose client was sent away, by offence; the map stays as it is
	refusals noise                    // log lines about refused connections
	offences noise                    // log lines about offences
}

// Stats are the counts of an Acceptor.
type Stats struct {
	Connections int              // that are open
	Refused     int64            // connections over MaxConnections or the limit of open files, since the start
	SentAway    map[string]int64 // connections whose client was sent away, by the data plane's Offences, since the start
}

// Stats returns the counts of the acceptor.
func (a *Acceptor) Stats() Stats {
	st := Stats{Connections: int(a.counts.open.Load()), Refused: a.counts.refused.Load(), SentAway: make(map[string]int64, len(a.counts.away))}
	for offence, n := range a.counts.away {
		st.SentAway[offence] = n.Load()
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
