package etcdtest

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Link is a TCP proxy to a server, which a test can cut or freeze. While it is frozen, peers can connect and send, as to a
// stopped process or machine, but no bytes arrive.
type Link struct {
	listener net.Listener
	to       string
	wg       sync.WaitGroup

	mu    sync.Mutex // guards what follows
	down  bool
	open  chan struct{} // closed unless the link is frozen
	conns map[net.Conn]bool
}

// NewLink starts a link to the server at address to. t.Cleanup stops it.
func NewLink(t *testing.T, to string) *Link {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	k := &Link{listener: l, to: to, conns: map[net.Conn]bool{}, open: make(chan struct{})}
	close(k.open)
	k.wg.Go(k.accept)
	t.Cleanup(func() {
		_ = l.Close()
		k.Cut()
		k.wg.Wait()
	})
	return k
}

// Address returns where the link listens.
func (k *Link) Address() string { return k.listener.Addr().String() }

func (k *Link) accept() {
	for {
		in, err := k.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", k.to)
		if err != nil || !k.add(in, out) {
			_ = in.Close()
			if err == nil {
				_ = out.Close()
			}
			continue
		}
		for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
			k.wg.Go(func() {
				_, _ = io.Copy(gate{pair[0], k}, pair[1])
				_ = pair[0].Close()
				_ = pair[1].Close()
			})
		}
	}
}

func (k *Link) add(conns ...net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range conns {
		k.conns[c] = true
	}
	return !k.down
}

// Cut closes all connections and refuses new ones until Restore.
func (k *Link) Cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = true
	for c := range k.conns {
		_ = c.Close()
	}
	clear(k.conns)
	k.thawLocked()
}

// Restore ends Cut.
func (k *Link) Restore() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = false
}

// Freeze stops all bytes, both ways, until Thaw.
func (k *Link) Freeze() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.open = make(chan struct{})
}

// Thaw ends Freeze.
func (k *Link) Thaw() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.thawLocked()
}

func (k *Link) thawLocked() {
	select {
	case <-k.open:
	default:
		close(k.open)
	}
}

// gate is a writer that waits while its link is frozen.
type gate struct {
	io.Writer
	link *Link
}

func (g gate) Write(p []byte) (int, error) {
	g.link.mu.Lock()
	open := g.link.open
	g.link.mu.Unlock()
	<-open
	return g.Writer.Write(p)
}
