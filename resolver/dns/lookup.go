package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// lookup asks for the addresses of a name, with the patience of a turn. An Err may come with Addresses: of one family there
// was an answer, and those of the other are what they were before.
func (n *Names) lookup(ctx context.Context, host string, patience time.Duration, before []netip.Addr) Answer {
	found, err := n.ask(ctx, "ip", host, patience)
	if err == nil {
		return n.answer(found, nil)
	}
	if isAbsent(err) || ctx.Err() != nil {
		return n.answer(nil, err)
	}
	// There are servers that never answer for one family.
	var v4, v6 []netip.Addr
	var err4, err6 error
	var asking sync.WaitGroup
	patience = min(patience, familyPatience)
	asking.Go(func() { v4, err4 = n.ask(ctx, "ip4", host, patience) })
	asking.Go(func() { v6, err6 = n.ask(ctx, "ip6", host, patience) })
	asking.Wait()
	answered4, answered6 := err4 == nil || isAbsent(err4), err6 == nil || isAbsent(err6)
	switch {
	case answered4 && answered6: // the error was of a moment, such as a packet that was lost
		if found, again := n.ask(ctx, "ip", host, patience); again == nil || isAbsent(again) {
			return n.answer(found, again)
		}
	case err4 == nil:
		return n.answer(append(v4, family(before, netip.Addr.Is6)...), err6)
	case err6 == nil:
		return n.answer(append(v6, family(before, netip.Addr.Is4)...), err4)
	}
	return n.answer(nil, err)
}

func (n *Names) ask(ctx context.Context, network, host string, patience time.Duration) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return n.resolver.LookupNetIP(ctx, network, host)
}

// isAbsent reports whether a look-up was answered, with nothing.
func isAbsent(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

func family(all []netip.Addr, is func(netip.Addr) bool) (of []netip.Addr) {
	for _, addr := range all {
		if is(addr) {
			of = append(of, addr)
		}
	}
	return of
}

// answer makes an Answer of what a look-up gave, without addresses that this machine has no route to: where a name has
// addresses of both families, and the machine one, half of them would be of no use. If none has a route, all count.
func (n *Names) answer(all []netip.Addr, err error) Answer {
	for i, addr := range all {
		all[i] = addr.Unmap()
	}
	slices.SortFunc(all, netip.Addr.Compare)
	all = slices.Compact(all)
	a := Answer{Err: err, Asked: true}
	for i, addr := range all {
		if len(a.Addresses) == MaxAddresses {
			a.Omitted = len(all) - i
			return a
		}
		if n.routable(addr) {
			a.Addresses = append(a.Addresses, addr)
		}
	}
	if len(a.Addresses) == 0 {
		a.Addresses = all[:min(len(all), MaxAddresses)]
		a.Omitted = len(all) - len(a.Addresses)
	}
	return a
}

// hasRoute reports whether this machine knows where to send what goes to an address. Nothing is sent.
func hasRoute(addr netip.Addr) bool {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 9)))
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}
