package transserver

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// CanReusePort says whether Listen can let others listen on the same address, and Shutdown hand it over to them.
const CanReusePort = true

func setReusePort(_, _ string, raw syscall.RawConn) error {
	return controlRaw(raw, func(fd uintptr) error { return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
}

// control calls f with the listener's descriptor.
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

// steerTo gives the next connections of all sockets of the address to the one with that number, in the order in which
// they began to listen. Without a socket of that number the kernel spreads them as before.
func steerTo(fd uintptr, number uint32) error {
	program := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: number}}
	return unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{Len: 1, Filter: &program[0]})
}

// forgetSteering undoes steerTo for all sockets of the address.
func forgetSteering(fd uintptr) error {
	return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
}
