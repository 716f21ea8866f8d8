// Package kitexlistener has a listener for the Kitex servers of tests.
package kitexlistener

import (
	"net"
	"sync"
	"syscall"
	"testing"

	"github.com/cloudwego/netpoll"
)

// Listener is a listener for a Kitex server that closes its descriptor only once. Kitex closes its listener twice when it
// stops, and netpoll's listener closes its descriptor twice each time (v0.7.2). By then the descriptor's number may belong to
// a connection of another test.
type Listener struct {
	netpoll.Listener // of a duplicate of the descriptor

	close  func()        // closes the descriptor; further calls do nothing
	begun  func()        // closes served; further calls do nothing
	served chan struct{} // closed when netpoll has asked for the descriptor
}

// New returns a listener on a free port of 127.0.0.1. The caller closes it, or the server that it is for.
func New(t testing.TB) *Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	l, err := netpoll.ConvertListener(ln)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	served := make(chan struct{})
	return &Listener{
		Listener: l, served: served, begun: sync.OnceFunc(func() { close(served) }),
		close: sync.OnceFunc(func() {
			ln.Close()
			if err := release(l.Fd()); err != nil {
				t.Errorf("close %s: %v", ln.Addr(), err)
			}
		}),
	}
}

// Served is closed when a Kitex server serves. It cannot be stopped before.
func (l *Listener) Served() <-chan struct{} { return l.served }

// Fd implements netpoll.Listener.
func (l *Listener) Fd() int {
	l.begun()
	return l.Listener.Fd()
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.close()
	return nil
}

// release closes the socket of a descriptor, but keeps the descriptor's number in use by making it one of /dev/null. The
// os.File in netpoll's listener closes the number, once, when it is garbage collected.
func release(fd int) error {
	null, err := syscall.Open("/dev/null", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(null)
	return syscall.Dup3(null, fd, syscall.O_CLOEXEC)
}
