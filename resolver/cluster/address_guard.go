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

// addressGuard refuses addresses that must not be endpoints: those at which this process listens, because a call there would
// come back, or would reach the admin server; and, for registered instances, those that Allow does not have. The set's mu
// guards it.
type addressGuard struct {
	log   *slog.Logger
	own   []ownAddress
	allow *Allow // nil allows every address

	interfaces func() ([]netip.Addr, error) // returns the addresses of this machine; replaced in tests
	known      []netip.Addr                 // what interfaces returned last, sorted
	changed    bool                         // known has changed since the last recheck
	asked      time.Time                    // when interfaces was called last
	trouble    error                        // why that call failed; nil if it did not
}

// ownAddress is an address at which this process listens.
type ownAddress struct {
	what string // listens there, for people: listener main
	at   netip.AddrPort
}

// interfacesAge is how old the known addresses of this machine may be when an endpoint is judged. They matter only for
// endpoints whose port is one that this process listens at.
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

// ask asks the system for the addresses of this machine. If that fails, the ones known before stay.
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

// refusal returns why an address may not be an endpoint; "" if it may. registered is true for an instance of a service. A
// host name is never refused: its addresses are, once they are looked up. localhost is refused only if neither of its
// addresses is allowed; see narrowed.
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

// narrowed returns, for localhost, the one of its two addresses that is allowed, if only one is; else a.
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

// ownAt returns what of this process listens at an address, such as "listener main"; "" if nothing does.
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

// onThisMachine reports whether an address is one of this machine's. It asks for them again if they are too old.
func (g *addressGuard) onThisMachine(ip netip.Addr) bool {
	if time.Since(g.asked) > interfacesAge {
		g.ask()
	}
	_, found := slices.BinarySearchFunc(g.known, ip, netip.Addr.Compare)
	return found
}

// isEverywhere reports whether this process listens at all addresses of the machine, so that the known ones matter.
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
	// Unmap leaves the IPv6 address :: as it is; a listener there takes IPv4 connections too.
	at = netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
	for _, o := range g.own {
		if o.at == at {
			return false
		}
	}
	g.own = append(g.own, ownAddress{what, at})
	return true
}
