package acceptor

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/net/http2"
)

// Listen listens on a TCP address. With ReusePort, other processes of the same user may listen on it at the same time if all
// of them set ReusePort (SO_REUSEPORT): the kernel distributes new connections among them. ReusePort fails unless
// CanReusePort.
func Listen(ctx context.Context, addr string, reuse Reuse) (net.Listener, error) {
	var cfg net.ListenConfig
	if reuse == ReusePort {
		cfg.Control = setReusePort
		cfg.SetMultipathTCP(false) // steerTo does not work for sockets of Multipath TCP (Linux 6.18)
	}
	ln, err := cfg.Listen(ctx, "tcp", addr)
	if err == nil && reuse == ReusePort {
		_ = control(ln, forgetSteering) // a process that has ended may have left a filter; fails if there is none
	}
	return ln, err
}

// Reuse says whether other processes may listen on the same address.
type Reuse int

// The values of Reuse.
const (
	OwnPort   Reuse = iota // no other process may
	ReusePort              // processes of the same user may
)

// probeTimeout bounds how long the connection of getsNext may take to be served.
const probeTimeout = time.Second

// steerAway makes the kernel give new connections to another process that listens on the same address. It reports false if
// there is no such process.
//
// The listening sockets of an address are numbered, and a filter (SO_ATTACH_REUSEPORT_CBPF) names the socket that gets new
// connections. A process cannot ask for the number of its socket, which also changes when another socket is closed. But at
// most one of the numbers 0 and 1 is this server's, and if another process listens, both numbers are in use. So steerAway
// tries both, and finds out with a connection to its own address where that arrives. The filter stays when this process has
// ended: if several processes still listen then, one of them gets all new connections until the next Listen.
func (s *Server) steerAway(ln net.Listener) bool {
	for number := range uint32(2) {
		err := control(ln, func(fd uintptr) error { return steerTo(fd, number) })
		if err != nil {
			break
		}
		if !s.getsNext(ln.Addr()) {
			return true
		}
	}
	_ = control(ln, forgetSteering)
	return false
}

// getsNext reports whether a new connection to the address comes to this server.
func (s *Server) getsNext(addr net.Addr) bool {
	nc, err := net.DialTimeout("tcp", addr.String(), probeTimeout)
	if err != nil {
		return true // no other process accepted it
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(probeTimeout))
	if _, err := nc.Write([]byte(http2.ClientPreface)); err != nil {
		return true
	}
	if err := http2.NewFramer(nc, nil).WriteSettings(); err != nil {
		return true
	}
	_, err = nc.Read(make([]byte, 1)) // the process that answers has accepted the connection
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return true // refused, for example because this server has as many connections as it may
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.RemoteAddr().String() == nc.LocalAddr().String() {
			return true
		}
	}
	return false
}
