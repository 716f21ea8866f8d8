package cluster

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/framegate/framegate/resolver/spec"
)

// addressGuard says which addresses may not be endpoints, wherever they come from: those at which this process listens itself,
// since a call there would come back, or reach what only operators may; and of registered instances those that are not
// allowed. The set's mu guards it.
type addressGuard struct {
	log   *slog.Logger
	own   []ownAddress
	allow *Allow // nil allows every address

	interfaces func() ([]netip.Addr, error) // of this machine
	known      []netip.Addr                 // what interfaces returned last, sorted
	changed    bool                         // known has, since all endpoints were judged
	asked      time.Time                    // when that was, or failed
	trouble    error                        // why it failed; nil if it did not
}

// ownAddress is where this process listens.
type ownAddress struct {
	what string // for people: listener main
	at   netip.AddrPort
}

// interfacesAge is how long the addresses of the machine's interfaces are taken to stay where an endpoint is judged. They
// are asked for only where a port is one of our own.
const interfacesAge = time.Second

func newAddressGuard(log *slog.Logger) *addressGuard {
	return &addressGuard{log: log, interfaces: interfaceAddresses}
}

func interfaceAddresses() (all []netip.Addr, err error) {
	nets, err := net.InterfaceAddrs()
	for _, n := range nets {
		if p, err := netip.ParsePrefix(n.String()); err == nil {
			all = append(all, p.Addr().Unmap().WithZone(""))
		}
	}
	return all, err
}

// ask asks for the addresses of the interfaces. While that fails the last known ones stay.
func (g *addressGuard) ask() {
	all, err := g.interfaces()
	before := g.trouble
	g.asked, g.trouble = time.Now(), err
	if err != nil {
		if before == nil {
			g.log.Error("the addresses of this machine cannot be had: those known before are taken for its own", "known", len(g.known), "error", err)
		}
		return
	}
	if before != nil {
		g.log.Info("the addresses of this machine are known again")
	}
	slices.SortFunc(all, netip.Addr.Compare)
	if !slices.Equal(all, g.known) {
		g.known, g.changed = all, true
	}
}

// refusal says why an address may not be an endpoint, "" if it may. registered is true for an instance of a service. Of a
// name that is still to be looked up it knows nothing. Of localhost it is enough that one address is allowed: see narrowed.
func (g *addressGuard) refusal(a spec.Address, registered bool) string {
	a = g.narrowed(a, registered)
	for _, ip := range a.IPs() {
		if what := g.ownAt(ip, a.Port); what != "" {
			return fmt.Sprintf("it is framegate's own: %s", what)
		}
	}
	if !registered || g.allow == nil {
		return ""
	}
	if a.Path != "" {
		if g.allow.path(a.Path) {
			return ""
		}
		return fmt.Sprintf("not in services.allow: %s", g.allow.text)
	}
	for _, ip := range a.IPs() {
		switch {
		case g.allow.ip(ip):
		case a.IsLocalhost():
			return fmt.Sprintf("127.0.0.1 and ::1, which localhost stands for, are not in services.allow: %s", g.allow.text)
		default:
			return fmt.Sprintf("%s is not in services.allow: %s", ip, g.allow.text)
		}
	}
	return ""
}

// narrowed returns the address that is allowed instead of localhost, if one of the two is; else a.
func (g *addressGuard) narrowed(a spec.Address, registered bool) spec.Address {
	if !registered || g.allow == nil || !a.IsLocalhost() {
		return a
	}
	var allowed []netip.Addr
	for _, ip := range spec.Loopbacks {
		if g.allow.ip(ip) {
			allowed = append(allowed, ip)
		}
	}
	if len(allowed) != 1 {
		return a
	}
	return spec.Address{IP: allowed[0], Port: a.Port}
}

// ownAt names what of this process listens at an address, "" if nothing does.
func (g *addressGuard) ownAt(ip netip.Addr, port uint16) string {
	ip = ip.Unmap().WithZone("")
	for _, o := range g.own {
		if o.at.Port() != port {
			continue
		}
		at := o.at.Addr()
		switch {
		case at == ip:
			return o.what
		case !at.IsUnspecified(), at.Is4() && !ip.Is4():
			continue
		case ip.IsLoopback(), g.onThisMachine(ip):
			return o.what
		}
	}
	return ""
}

func (g *addressGuard) onThisMachine(ip netip.Addr) bool {
	if time.Since(g.asked) > interfacesAge {
		g.ask()
	}
	_, found := slices.BinarySearchFunc(g.known, ip, netip.Addr.Compare)
	return found
}

// isEverywhere reports whether this process listens at all addresses of the machine, so that they matter.
func (g *addressGuard) isEverywhere() bool {
	return slices.ContainsFunc(g.own, func(o ownAddress) bool { return o.at.Addr().IsUnspecified() })
}

// add notes that this process listens at an address, and reports whether that is new.
func (g *addressGuard) add(what string, addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return false
	}
	at := tcp.AddrPort()
	// The IPv6 address :: takes IPv4 connections too, and stays what it is.
	at = netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
	for _, o := range g.own {
		if o.at == at {
			return false
		}
	}
	g.own = append(g.own, ownAddress{what, at})
	return true
}
