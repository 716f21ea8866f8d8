package transserver

import (
	"errors"
	"os"
	"sync"
	"syscall"
)

// Descriptors is what the listeners of a process may take of its limit of open files together: endpoints, files and the
// admin server need some too. It keeps a few of its own for the listeners, so that they go on to accept when something
// else has taken all the rest. A nil *Descriptors has no bound and keeps none.
type Descriptors struct {
	most, keep int // set once

	mu    sync.Mutex // guards the fields below
	open  int        // connections
	spare []*os.File // the null device, keep times unless some are lent
}

// maxSpare is how many descriptors are kept for the listeners.
const maxSpare = 16

// NewDescriptors returns the share that listeners have of limit open files: five eighths. Close gives back what it keeps.
func NewDescriptors(limit int) *Descriptors {
	d := &Descriptors{most: max(limit/8*5, 1), keep: min(maxSpare, limit/32)}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refillLocked()
	return d
}

// MaxConnections is how many connections the listeners may have together.
func (d *Descriptors) MaxConnections() int { return d.most }

// Close closes what is kept. The listeners have ended.
func (d *Descriptors) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keep = 0
	for d.lendLocked() {
	}
}

// take counts a connection, and reports whether there is room for it. Each true wants one giveBack, after the connection
// is closed.
func (d *Descriptors) take() bool {
	if d == nil {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open >= d.most {
		return false
	}
	d.open++
	return true
}

func (d *Descriptors) giveBack() {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open--
	d.refillLocked()
}

// lend frees a descriptor for a connection that could not be accepted without, and reports whether it had one.
func (d *Descriptors) lend() bool {
	if d == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lendLocked()
}

func (d *Descriptors) lendLocked() bool {
	last := len(d.spare) - 1
	if last < 0 {
		return false
	}
	_ = d.spare[last].Close()
	d.spare = d.spare[:last]
	return true
}

func (d *Descriptors) refillLocked() {
	for len(d.spare) < d.keep {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return // there will be more when the next connection ends
		}
		d.spare = append(d.spare, f)
	}
}

// isOutOfDescriptors reports whether accept failed for want of one.
func isOutOfDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
