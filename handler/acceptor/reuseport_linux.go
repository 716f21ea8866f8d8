package acceptor

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// CanReusePort reports whether this platform supports ReusePort: Listen lets other processes listen on the same address, and
// Shutdown hands new connections over to them.
const CanReusePort = true

func setReusePort(_, _ string, raw syscall.RawConn) error {
	return controlRaw(raw, func(fd uintptr) error { return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
}

// control calls f with the listener's file descriptor.
func control(ln net.Listener, f func(fd uintptr) error) error {
	sc, ok := ln.(syscall.Conn)
	if !ok {
		return syscall.ENOTSUP
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	return controlRaw(raw, f)
}

func controlRaw(raw syscall.RawConn, f func(fd uintptr) error) error {
	var done error
	if err := raw.Control(func(fd uintptr) { done = f(fd) }); err != nil {
		return err
	}
	return done
}

// steerTo makes the kernel give all new connections to an address to the listening socket with that number. fd is any
// listening socket of the address; sockets are numbered from 0, in the order in which they began to listen. If no socket has
// the number, the kernel distributes connections as before.
func steerTo(fd uintptr, number uint32) error {
	filter := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: number}}
	return unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{Len: 1, Filter: &filter[0]})
}

// forgetSteering removes the filter of steerTo from all listening sockets of the address.
func forgetSteering(fd uintptr) error {
	return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
}
