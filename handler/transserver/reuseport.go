package transserver

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/net/http2"
)

// Listen listens on a TCP address. With reuse, other processes of the same user may listen on it too (SO_REUSEPORT), if
// all of them say so: the kernel spreads new connections over them. Reuse wants CanReusePort.
func Listen(ctx context.Context, addr string, reuse Reuse) (net.Listener, error) {
	var cfg net.ListenConfig
	if reuse == ReusePort {
		cfg.Control = setReusePort
		cfg.SetMultipathTCP(false) // whose sockets cannot be steered (Linux 6.18)
	}
	ln, err := cfg.Listen(ctx, "tcp", addr)
	if err == nil && reuse == ReusePort {
		_ = control(ln, forgetSteering) // of a process that is gone; there is none to forget as a rule
	}
	return ln, err
}

// Reuse says whether other processes may listen on the same address.
type Reuse int

// The two.
const (
	OwnPort Reuse = iota
	ReusePort
)

// probeTimeout bounds how long a new connection may take to be served, wherever it comes out.
const probeTimeout = time.Second

// steerAway makes the kernel give new connections to another process that listens on the same address. It reports false
// if there is none.
//
// The sockets of an address are numbered, and a filter (SO_ATTACH_REUSEPORT_CBPF) may name the one that gets the next
// connection. Nothing tells a socket its own number, and it changes; but of the numbers 0 and 1 at most one can be ours,
// and with another socket beside ours both are taken. A connection to ourselves shows where it comes out. The filter stays
// when we are gone: if more than one is left, one of them gets all new connections until the next Listen.
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
		return true // nobody else does
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(probeTimeout))
	if _, err := nc.Write([]byte(http2.ClientPreface)); err != nil {
		return true
	}
	if err := http2.NewFramer(nc, nil).WriteSettings(); err != nil {
		return true
	}
	_, err = nc.Read(make([]byte, 1)) // who answers has accepted it
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return true // refused, as one too many perhaps
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
