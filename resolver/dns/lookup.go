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

// lookup asks for the addresses of a name, with the patience of its turn. If servers answer for one family (IPv4 or IPv6) and
// not for the other, the Answer has an Err and Addresses: those of the first family as they are now, and those of the other
// as they were in before.
func (n *Names) lookup(ctx context.Context, host string, patience time.Duration, before []netip.Addr) Answer {
	found, err := n.ask(ctx, "ip", host, patience)
	if err == nil {
		return n.answer(found, nil)
	}
	if isAbsent(err) || ctx.Err() != nil {
		return n.answer(nil, err)
	}
	// Some servers never answer for one of the families, so each is asked for alone.
	var v4, v6 []netip.Addr
	var err4, err6 error
	var asking sync.WaitGroup
	patience = min(patience, familyPatience)
	asking.Go(func() { v4, err4 = n.ask(ctx, "ip4", host, patience) })
	asking.Go(func() { v6, err6 = n.ask(ctx, "ip6", host, patience) })
	asking.Wait()
	answered4, answered6 := err4 == nil || isAbsent(err4), err6 == nil || isAbsent(err6)
	switch {
	case answered4 && answered6: // the error has passed, such as a packet that was lost: ask for both again
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

// ask looks a name up once. network is that of net.Resolver.LookupNetIP: ip, ip4 or ip6.
func (n *Names) ask(ctx context.Context, network, host string, patience time.Duration) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return n.resolver.LookupNetIP(ctx, network, host)
}

// isAbsent reports whether err is the answer that a name has no addresses.
func isAbsent(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

// family returns those of the addresses that are of a family.
func family(all []netip.Addr, is func(netip.Addr) bool) (of []netip.Addr) {
	for _, addr := range all {
		if is(addr) {
			of = append(of, addr)
		}
	}
	return of
}

// answer makes an Answer of the addresses that a look-up gave. It leaves out those that this machine has no route to, because
// many names have addresses of both families and many machines can reach only one. If none has a route, it keeps all.
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

// hasRoute reports whether this machine has a route to an address. It sends nothing.
func hasRoute(addr netip.Addr) bool {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 9)))
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}
