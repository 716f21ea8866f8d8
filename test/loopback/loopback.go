// Package loopback gives tests addresses at which they alone listen.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"
)

// Address returns an address of this machine, host:port, at which nobody listens. On Linux it stays the test's own: the host
// is one of 127.0.0.0/8 that nobody else is given, so that what listens there may be closed and another may listen there
// later, and a process may be told to. A port of 127.0.0.1 that is free is soon somebody's.
func Address(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(host(), "0"))
	if err != nil {
		t.Fatalf("loopback: %v", err)
	}
	if err := ln.Close(); err != nil {
		t.Fatalf("loopback: %v", err)
	}
	return ln.Addr().String()
}

func host() string {
	if runtime.GOOS != "linux" { // others have 127.0.0.1 alone
		return "127.0.0.1"
	}
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
}
