package acceptor

import (
	"log/slog"
	"sync/atomic"
)

// Offences counts the connections that are ended for what their peer did, and logs them, at most one a second. It is safe for
// concurrent use.
type Offences struct {
	log    *slog.Logger
	peer   string                   // client or endpoint
	counts map[string]*atomic.Int64 // connections by reason; the map stays as it is
	lines  noise
}

// NewOffences returns Offences for the given reasons. peer is the word for the peers in the log: client or endpoint.
func NewOffences(peer string, reasons []string, log *slog.Logger) *Offences {
	o := &Offences{log: log, peer: peer, counts: make(map[string]*atomic.Int64, len(reasons))}
	for _, reason := range reasons {
		o.counts[reason] = new(atomic.Int64)
	}
	return o
}

// Note counts and logs a connection that is ended for one of the reasons. address is the peer's.
func (o *Offences) Note(address, reason string) {
	o.counts[reason].Add(1)
	if n, ok := o.lines.note(); ok {
		o.log.Warn(o.peer+" sent away", o.peer, address, "reason", reason, o.peer+"s_since_last_line", n)
	}
}

// Counts returns the connections since the start, by every reason.
func (o *Offences) Counts() map[string]int64 {
	counts := make(map[string]int64, len(o.counts))
	for reason, n := range o.counts {
		counts[reason] = n.Load()
	}
	return counts
}
