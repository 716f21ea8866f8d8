package acceptor

import (
	"errors"
	"os"
	"sync"
	"syscall"
)

// Descriptors bounds the connections that all listeners of a process have open together, because every connection takes a
// file descriptor, and connections to endpoints, files and the admin server need some too. It also keeps a few descriptors
// in reserve, so that the listeners can accept connections when the process has used up all others. A nil *Descriptors has
// no bound and no reserve.
type Descriptors struct {
	maxConns int // set once

	mu    sync.Mutex // guards the fields below
	open  int        // connections
	keep  int        // size of the reserve; 0 after Close
	spare []*os.File // the reserve: the null device, opened keep times, less those that are lent
}

// maxSpare bounds the reserve.
const maxSpare = 16

// NewDescriptors returns the Descriptors of a process that may have limit files open. Listeners may have five eighths of
// them. Close closes the reserve.
func NewDescriptors(limit int) *Descriptors {
	d := &Descriptors{maxConns: max(limit/8*5, 1), keep: min(maxSpare, limit/32)}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refillLocked()
	return d
}

// MaxConnections is how many connections the listeners may have together.
func (d *Descriptors) MaxConnections() int { return d.maxConns }

// Close closes the reserve. The listeners must have ended.
func (d *Descriptors) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keep = 0
	for d.lendLocked() {
	}
}

// take counts a connection, or reports false if there are maxConns. For each true the caller calls giveBack once, after the
// connection is closed.
func (d *Descriptors) take() bool {
	if d == nil {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open >= d.maxConns {
		return false
	}
	d.open++
	return true
}

// giveBack takes a connection, which is closed, out of the count, and refills the reserve.
func (d *Descriptors) giveBack() {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open--
	d.refillLocked()
}

// lend closes a descriptor of the reserve, so that the next accept has one, and reports whether there was any.
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
			return // giveBack tries again when the next connection has ended
		}
		d.spare = append(d.spare, f)
	}
}

// isOutOfDescriptors reports whether accept failed because the process or the system has no free file descriptor.
func isOutOfDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
