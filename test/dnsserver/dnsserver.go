// Package dnsserver is a DNS server on 127.0.0.1 for tests.
package dnsserver

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// Server answers for the names that were set; other names do not exist (NXDOMAIN). It may be used by several goroutines.
type Server struct {
	udp net.PacketConn
	tcp net.Listener
	wg  sync.WaitGroup

	mu    sync.Mutex // guards what follows
	names map[string]*entry
	asked map[string]int
}

// entry has the addresses of a name, and the faults by which questions are not answered with them.
type entry struct {
	addresses []netip.Addr
	fault     map[dnsmessage.Type]Fault
}

// Fault is what a server does instead of an answer.
type Fault int

// The faults.
const (
	None     Fault = iota
	ServFail       // RFC 1035 §4.1.1
	Silence        // no answer at all
)

// New starts a server. t.Cleanup stops it.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{names: map[string]*entry{}, asked: map[string]int{}}
	var err error
	for range 10 { // until one port is free for both UDP and TCP
		if s.udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			continue
		}
		if s.tcp, err = net.Listen("tcp", s.udp.LocalAddr().String()); err == nil {
			break
		}
		_ = s.udp.Close()
	}
	if err != nil {
		t.Fatalf("dns server: %v", err)
	}
	s.wg.Go(s.serveUDP)
	s.wg.Go(s.serveTCP)
	t.Cleanup(func() {
		_ = s.udp.Close()
		_ = s.tcp.Close()
		s.wg.Wait()
	})
	return s
}

// Resolver returns a resolver that asks this server instead of the system's.
func (s *Server) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, s.udp.LocalAddr().String())
		if err == nil {
			context.AfterFunc(ctx, func() { _ = c.Close() }) // ends the wait of a look-up that was given up
		}
		return c, err
	}}
}

// Set gives a name these addresses. Without addresses, the name exists but has none.
func (s *Server) Set(name string, addresses ...string) {
	e := &entry{}
	for _, a := range addresses {
		e.addresses = append(e.addresses, netip.MustParseAddr(a))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[absolute(name)] = e
}

// Remove makes a name one that does not exist (NXDOMAIN).
func (s *Server) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.names, absolute(name))
}

// Break makes questions for a name end with a fault: those for types (A or AAAA), by default both.
func (s *Server) Break(name string, f Fault, types ...dnsmessage.Type) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.names[absolute(name)]
	if e == nil {
		e = &entry{}
		s.names[absolute(name)] = e
	}
	if len(types) == 0 {
		types = []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA}
	}
	e.fault = map[dnsmessage.Type]Fault{}
	for _, t := range types {
		e.fault[t] = f
	}
}

// Asked returns how many questions for a name have come so far.
func (s *Server) Asked(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[absolute(name)]
}

func absolute(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) + "." }

func (s *Server) serveUDP() {
	buf := make([]byte, 4096)
	for {
		n, from, err := s.udp.ReadFrom(buf)
		if err != nil {
			return
		}
		const maxUDP = 1232 // bytes that Go's resolver announces (EDNS)
		if answer := s.answer(buf[:n], maxUDP); answer != nil {
			_, _ = s.udp.WriteTo(answer, from)
		}
	}
}

func (s *Server) serveTCP() {
	for {
		c, err := s.tcp.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() {
			defer c.Close()
			var size [2]byte
			if _, err := io.ReadFull(c, size[:]); err != nil {
				return
			}
			question := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(c, question); err != nil {
				return
			}
			answer := s.answer(question, 1<<16-1)
			_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
		})
	}
}

// answer returns the answer to a question; nil means that there is none. An answer longer than maxBytes is replaced by a
// truncated one without addresses.
func (s *Server) answer(question []byte, maxBytes int) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	name := absolute(q.Name.String())
	s.mu.Lock()
	s.asked[name]++
	e := s.names[name]
	var fault Fault
	var addresses []netip.Addr
	if e != nil {
		fault, addresses = e.fault[q.Type], e.addresses
	}
	s.mu.Unlock()
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	switch {
	case fault == Silence:
		return nil
	case fault == ServFail:
		m.RCode = dnsmessage.RCodeServerFailure
	case e == nil:
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range addresses {
		h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}
		switch {
		case fault != None:
		case q.Type == dnsmessage.TypeA && a.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
		case q.Type == dnsmessage.TypeAAAA && a.Is6():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	packed, err := m.Pack()
	if err == nil && len(packed) > maxBytes {
		m.Truncated, m.Answers = true, nil
		packed, err = m.Pack()
	}
	if err != nil {
		return nil
	}
	return packed
}
