//go:build !linux

package transserver

import (
	"errors"
	"net"
	"syscall"
)

// CanReusePort says whether Listen can let others listen on the same address, and Shutdown hand it over to them.
const CanReusePort = false

var errNoReusePort = errors.New("no SO_REUSEPORT that can be handed over on this platform")

func setReusePort(_, _ string, _ syscall.RawConn) error { return errNoReusePort }

func control(net.Listener, func(fd uintptr) error) error { return errNoReusePort }

func steerTo(uintptr, uint32) error { return errNoReusePort }

func forgetSteering(uintptr) error { return errNoReusePort }
