package chaos

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/framegate/framegate/test/testbed"
)

// Seen counts how often calls have reached a server, by their number.
type Seen map[uint64]int

// Add adds the counts of other.
func (s Seen) Add(other Seen) {
	for id, n := range other {
		s[id] += n
	}
}

// Server is what calls may have reached.
type Server interface {
	// Address is where it listens.
	Address() string
	// Seen returns the calls that have reached it so far, at all of its lives. A refused stream has not.
	Seen() Seen
}

// Backend is a gRPC server in a process of its own. Its methods are for the test's goroutine.
type Backend struct {
	t      testing.TB
	addr   string
	record string   // the file to which it writes the numbers of calls
	p      *process // nil while it does not run
}

// NewBackend starts a backend on a free port of 127.0.0.1.
func NewBackend(t testing.TB) *Backend {
	t.Helper()
	b := &Backend{t: t, addr: "127.0.0.1:0", record: filepath.Join(t.TempDir(), "seen")}
	t.Cleanup(b.Kill)
	b.Start()
	return b
}

// Address implements Server.
func (b *Backend) Address() string { return b.addr }

// Start starts a backend that does not run, where it was before, and returns when it serves.
func (b *Backend) Start() {
	b.t.Helper()
	// One thread of Go code is enough for its load, and leaves the other processor to framegate.
	b.p = startProcess(b.t, roleBackend, []string{b.addr, b.record}, "GOMAXPROCS=1")
	b.addr = b.p.firstLine()
}

// Kill ends the backend as kill -9 does, and returns when it is gone. It may be called more than once.
func (b *Backend) Kill() {
	if b.p != nil {
		b.p.kill()
		b.p = nil
	}
}

// Stop stops the process as SIGSTOP does, and returns when it stands still: the kernel goes on accepting connections
// for it, and it says nothing.
func (b *Backend) Stop() {
	b.p.signal(syscall.SIGSTOP)
	testbed.Poll(b.t, b.p.checkStopped)
}

// Continue ends Stop.
func (b *Backend) Continue() { b.p.signal(syscall.SIGCONT) }

// Terminate asks the backend to end as SIGTERM does, and returns when it is gone: calls end, streams are cut after
// gracePeriod.
func (b *Backend) Terminate() {
	b.p.signal(syscall.SIGTERM)
	b.p.wait(patience)
	b.p = nil
}

// idBytes is the size of a number in the record.
const idBytes = 8

// Seen implements Server. The record outlives a process that was killed.
func (b *Backend) Seen() Seen {
	data, err := os.ReadFile(b.record)
	if err != nil {
		b.t.Fatalf("record of calls: %v", err)
	}
	seen := Seen{}
	for ; len(data) >= idBytes; data = data[idBytes:] {
		seen[binary.LittleEndian.Uint64(data)]++
	}
	return seen
}
