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

// Server answers for the names it was told of; the others do not exist. It may be used by several goroutines.
type Server struct {
	udp net.PacketConn
	tcp net.Listener
	wg  sync.WaitGroup

	mu    sync.Mutex // guards what follows
	names map[string]*entry
	asked map[string]int
}

// entry is what is known of a name.
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

// New starts a server that the test's end stops.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{names: map[string]*entry{}, asked: map[string]int{}}
	var err error
	for range 10 { // both on one port
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

// Resolver asks the server, whatever servers the system has.
func (s *Server) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, s.udp.LocalAddr().String())
		if err == nil {
			context.AfterFunc(ctx, func() { _ = c.Close() }) // or a look-up that was given up would wait on
		}
		return c, err
	}}
}

// Set gives a name these addresses. With none there is the name, without an address.
func (s *Server) Set(name string, addresses ...string) {
	e := &entry{}
	for _, a := range addresses {
		e.addresses = append(e.addresses, netip.MustParseAddr(a))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[absolute(name)] = e
}

// Remove takes a name away: it does not exist (NXDOMAIN).
func (s *Server) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.names, absolute(name))
}

// Break makes questions for a name come to that, for A, AAAA or both.
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

// Asked counts the questions for the addresses of a name so far.
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
		const most = 1232 // that Go says it takes
		if answer := s.answer(buf[:n], most); answer != nil {
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

// answer returns the answer to a question, cut to a number of bytes; nil for none.
func (s *Server) answer(question []byte, most int) []byte {
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
	if err == nil && len(packed) > most {
		m.Truncated, m.Answers = true, nil
		packed, err = m.Pack()
	}
	if err != nil {
		return nil
	}
	return packed
}
