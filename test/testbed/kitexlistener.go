package testbed

import (
	"sync"
	"syscall"
	"testing"

	"github.com/cloudwego/netpoll"
)

// kitexListener is a listener for a Kitex server whose descriptor is closed once. Kitex closes its listener twice when it
// stops, and netpoll's closes its descriptor twice each time (v0.7.2): by then the number may be that of a connection of
// another test.
type kitexListener struct {
	netpoll.Listener // of a duplicate of the descriptor

	close  func()
	begun  func()
	served chan struct{} // closed when netpoll has taken the descriptor: only then can a Kitex server be stopped
}

func listenForKitex(t testing.TB) *kitexListener {
	t.Helper()
	ln := listen(t)
	l, err := netpoll.ConvertListener(ln)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	served := make(chan struct{})
	return &kitexListener{
		Listener: l, served: served, begun: sync.OnceFunc(func() { close(served) }),
		close: sync.OnceFunc(func() {
			ln.Close()
			if err := release(l.Fd()); err != nil {
				t.Errorf("close %s: %v", ln.Addr(), err)
			}
		}),
	}
}

// Fd implements netpoll.Listener.
func (l *kitexListener) Fd() int {
	l.begun()
	return l.Listener.Fd()
}

// Close implements net.Listener.
func (l *kitexListener) Close() error {
	l.close()
	return nil
}

// release closes what the descriptor is of, and keeps its number from being given away: the os.File in netpoll's listener
// closes that, once, when it is collected.
func release(fd int) error {
	null, err := syscall.Open("/dev/null", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(null)
	return syscall.Dup3(null, fd, syscall.O_CLOEXEC)
}
