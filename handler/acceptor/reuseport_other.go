//go:build !linux

package acceptor

import (
	"errors"
	"net"
	"syscall"
)

// CanReusePort reports whether this platform supports ReusePort: Listen lets other processes listen on the same address, and
// Shutdown hands new connections over to them.
const CanReusePort = false

var errNoReusePort = errors.New("no SO_REUSEPORT that can be handed over on this platform")

func setReusePort(_, _ string, _ syscall.RawConn) error { return errNoReusePort }

func control(net.Listener, func(fd uintptr) error) error { return errNoReusePort }

func steerTo(uintptr, uint32) error { return errNoReusePort }

func forgetSteering(uintptr) error { return errNoReusePort }
