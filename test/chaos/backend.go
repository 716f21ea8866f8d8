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

// Server is an upstream server that calls may reach: Backend, Raw or Mute.
type Server interface {
	// Address returns where the server listens.
	Address() string
	// Seen returns the calls that have reached the server so far, also before it was restarted. A refused stream is not seen.
	Seen() Seen
}

// Backend is a gRPC server in a process of its own. Its methods are for the test's goroutine.
type Backend struct {
	t      testing.TB
	addr   string
	record string   // path of the file to which the process writes the number of each call
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

// Start starts a backend that does not run, at its earlier address, and returns when it serves.
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

// Stop sends SIGSTOP and returns when every thread has stopped. The kernel still accepts connections for the process, which
// does not answer on them.
func (b *Backend) Stop() {
	b.p.signal(syscall.SIGSTOP)
	testbed.Poll(b.t, b.p.checkStopped)
}

// Continue ends Stop.
func (b *Backend) Continue() { b.p.signal(syscall.SIGCONT) }

// Terminate sends SIGTERM and returns when the process has ended. Calls may end by themselves within gracePeriod; the others
// are cut off then.
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
