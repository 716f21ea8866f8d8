package sink

import (
	"sync"
	"time"
)

// pace says how fast run gives records to the client: what its promises tell run.
type pace struct {
	mu      sync.Mutex // guards what follows
	failure bool       // records were given up, and are to be tried again after a pause
	pauses  backoff
	limit   int  // of records that are sent at once, while it is below maxBatch; 0 is maxBatch
	refused bool // a batch was, since begin
}

// begin returns how many records to give to the client. If these are less than maxBatch, nothing else must be sent meanwhile.
func (p *pace) begin() (limit int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.limit == 0:
		p.limit = maxBatch
	case p.refused:
		p.limit = max(p.limit/2, 1)
	default: // all that was sent is delivered or dropped
		p.limit = min(2*p.limit, maxBatch)
	}
	p.refused = false
	return p.limit
}

// delivered says that a record was.
func (p *pace) delivered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pauses.reset()
}

// failed says that a record was given up that is to be tried again.
func (p *pace) failed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failure = true
}

// split says that a batch was refused.
func (p *pace) split() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = true
}

// disturbed reports whether run must not go on as it does.
func (p *pace) disturbed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failure || p.refused
}

// setback reports whether records were given up since it was called last, and how long to pause then.
func (p *pace) setback() (pause time.Duration, happened bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.failure {
		return 0, false
	}
	p.failure = false
	return p.pauses.next(), true
}
