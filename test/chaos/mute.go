package chaos

import (
	"net"
	"sync"
	"testing"
)

// Mute is a server that accepts connections and never sends anything.
type Mute struct {
	ln net.Listener
	wg sync.WaitGroup
}

var _ Server = (*Mute)(nil)

// NewMute listens on a free port of 127.0.0.1.
func NewMute(t testing.TB) *Mute {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	m := &Mute{ln: ln}
	m.wg.Go(m.accept)
	t.Cleanup(func() {
		ln.Close()
		m.wg.Wait()
	})
	return m
}

func (m *Mute) accept() {
	for {
		nc, err := m.ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close() // kept open, and never read, until accept returns
	}
}

// Address implements Server.
func (m *Mute) Address() string { return m.ln.Addr().String() }

// Seen implements Server. It is always empty.
func (m *Mute) Seen() Seen { return Seen{} }
