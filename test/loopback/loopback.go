// Package loopback gives tests addresses that no other test listens on.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"
)

// Address returns a loopback address, host:port, on which nobody listens. A server that listens there may be closed and
// another started there later. A free port of 127.0.0.1 would soon be taken by another test; so on Linux the host is a
// random one of 127.0.0.0/8.
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
	if runtime.GOOS != "linux" { // other systems have only 127.0.0.1
		return "127.0.0.1"
	}
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
}
