package resolver

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// link is a TCP connection to a server that a test can cut, or freeze as a process or a machine that was stopped is: what
// is sent is taken, and nothing comes.
type link struct {
	listener net.Listener
	to       string
	wg       sync.WaitGroup

	mu    sync.Mutex // guards what follows
	down  bool
	open  chan struct{} // closed while bytes pass
	conns map[net.Conn]bool
}

func newLink(t *testing.T, to string) *link {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	k := &link{listener: l, to: to, conns: map[net.Conn]bool{}, open: make(chan struct{})}
	close(k.open)
	k.wg.Go(k.accept)
	t.Cleanup(func() {
		_ = l.Close()
		k.cut()
		k.wg.Wait()
	})
	return k
}

func (k *link) address() string { return k.listener.Addr().String() }

func (k *link) accept() {
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

func (k *link) add(conns ...net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range conns {
		k.conns[c] = true
	}
	return !k.down
}

func (k *link) cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = true
	for c := range k.conns {
		_ = c.Close()
	}
	clear(k.conns)
	k.thawLocked()
}

func (k *link) restore() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = false
}

// freeze stops all bytes, both ways, until thaw.
func (k *link) freeze() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.open = make(chan struct{})
}

func (k *link) thaw() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.thawLocked()
}

func (k *link) thawLocked() {
	select {
	case <-k.open:
	default:
		close(k.open)
	}
}

// gate is where bytes of a link pass.
type gate struct {
	io.Writer
	link *link
}

func (g gate) Write(p []byte) (int, error) {
	g.link.mu.Lock()
	open := g.link.open
	g.link.mu.Unlock()
	<-open
	return g.Writer.Write(p)
}
