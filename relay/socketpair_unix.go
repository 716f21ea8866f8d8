//go:build unix

package relay

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// Supported reports whether this platform has what the relay needs.
const Supported = true

// socketPair returns two ends of a connection within the process.
func socketPair() (one, other net.Conn, err error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, fmt.Errorf("relay: socketpair: %w", err)
	}
	one, err = fileConn(fds[0])
	other, err2 := fileConn(fds[1])
	if err == nil {
		err = err2
	}
	return one, other, err
}

func fileConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "socketpair")
	defer f.Close()
	return net.FileConn(f) // has a descriptor of its own
}
