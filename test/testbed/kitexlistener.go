package testbed

import (
	"net"
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

	close func()
}

func listenForKitex(t testing.TB) net.Listener {
	t.Helper()
	ln := listen(t)
	l, err := netpoll.ConvertListener(ln)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	return &kitexListener{Listener: l, close: sync.OnceFunc(func() {
		ln.Close()
		if err := release(l.Fd()); err != nil {
			t.Errorf("close %s: %v", ln.Addr(), err)
		}
	})}
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
