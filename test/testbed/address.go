package testbed

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"
)

var hosts atomic.Int32 // how many hosts OwnHost has returned

// OwnHost returns a loopback address, without a port, that no other call in this process gets. A free port of it stays free,
// because other tests listen on 127.0.0.1.
func OwnHost() string {
	n := hosts.Add(1)
	return fmt.Sprintf("127.1.%d.%d", n/250, n%250+1)
}

// FreeAddress returns an address with a free port, for a process that must be given one.
func FreeAddress(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", OwnHost()+":0")
	if err != nil {
		t.Fatalf("free address: %v", err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
