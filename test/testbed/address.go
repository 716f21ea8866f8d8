package testbed

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"
)

var hosts atomic.Int32 // how many OwnHost has given away

// OwnHost returns an address of this machine, without a port, that nobody else in this process is given. A port of it stays
// free while nobody listens there: others take theirs of 127.0.0.1.
func OwnHost() string {
	n := hosts.Add(1)
	return fmt.Sprintf("127.1.%d.%d", n/250, n%250+1)
}

// FreeAddress returns an address with a port that nobody listens on, for a process that must be told one.
func FreeAddress(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", OwnHost()+":0")
	if err != nil {
		t.Fatalf("free address: %v", err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
