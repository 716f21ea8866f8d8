package acceptor

import (
	"sync"
	"sync/atomic"
	"time"
)

// counts are the counts of an Acceptor.
type counts struct {
	open     atomic.Int64 // connections
	refused  atomic.Int64 // connections
	away     *Offences    // of clients
	refusals noise        // log lines about refused connections
}

// Stats are the counts of an Acceptor.
type Stats struct {
	Connections int              // that are open
	Refused     int64            // connections over MaxConnections or the limit of open files, since the start
	SentAway    map[string]int64 // connections whose client was sent away, by the data plane's Offences, since the start
}

// Stats returns the counts of the acceptor.
func (a *Acceptor) Stats() Stats {
	return Stats{Connections: int(a.counts.open.Load()), Refused: a.counts.refused.Load(), SentAway: a.counts.away.Counts()}
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
