package spec

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/framegate/framegate/pool/dial"
	"github.com/framegate/framegate/resolver/plain"
)

const (
	maxAddressLen  = 512
	maxUnixPathLen = 107 // sun_path less its final zero, unix(7)
	UnixPrefix     = "unix:"

	// DNSPrefix may stand before host:port, as in gRPC. It changes nothing.
	DNSPrefix = "dns:///"
)

// Address is the parsed address of an endpoint: the path of a unix socket, or a port at an IP address or a host name.
type Address struct {
	Path string     // of a unix socket; empty for the others
	IP   netip.Addr // IPv4 also for ::ffff:a.b.c.d; the zero value for a host name
	Host string     // the host name, in lower case; empty for the others
	Port uint16
}

// ValidateAddress returns what is wrong with an endpoint's address; nil if ParseAddress accepts it.
func ValidateAddress(addr string) error {
	_, err := ParseAddress(addr)
	return err
}

// ParseAddress parses an endpoint's address: host:port, dns:///host:port or unix:/path.
func ParseAddress(addr string) (Address, error) {
	if len(addr) > maxAddressLen || !Printable(addr) {
		return Address{}, fmt.Errorf("%q, want at most %d printable characters without spaces", plain.URL(addr), maxAddressLen)
	}
	if path, ok := strings.CutPrefix(addr, UnixPrefix); ok {
		if !strings.HasPrefix(path, "/") || len(path) > maxUnixPathLen {
			return Address{}, fmt.Errorf("%q, want unix:/path of at most %d bytes", plain.URL(addr), maxUnixPathLen)
		}
		return Address{Path: path}, nil
	}
	bare, isDNS := strings.CutPrefix(addr, DNSPrefix)
	if !isDNS && strings.HasPrefix(addr, "dns:") {
		return Address{}, fmt.Errorf("%q, want host:port or dns:///host:port: the system's servers are asked", plain.URL(addr))
	}
	host, port, err := net.SplitHostPort(bare)
	if err != nil || host == "" {
		return Address{}, fmt.Errorf("%q, want host:port or unix:/path", plain.URL(addr))
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return Address{}, fmt.Errorf("%q, want a port from 1 to 65535", plain.URL(addr))
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		if !validHost(host) || strings.HasPrefix(bare, "[") {
			return Address{}, fmt.Errorf("%q, want host:port or unix:/path, a host of a-z 0-9 . _ -", plain.URL(addr))
		}
		return Address{Host: strings.ToLower(host), Port: uint16(n)}, nil
	}
	if ip = ip.Unmap(); !Callable(ip) {
		return Address{}, fmt.Errorf("%q, want the address of one host: %s is that of none or of many", plain.URL(addr), ip)
	}
	return Address{IP: ip, Port: uint16(n)}, nil
}

// validHost reports whether s has only characters that host names have.
func validHost(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-'
	})
}

// Callable reports whether the address can be that of one host. The unspecified address, at which servers listen, is none:
// a connection to it ends on this machine. Multicast and broadcast addresses are of many hosts.
func Callable(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	return ip.IsValid() && !ip.IsUnspecified() && !ip.IsMulticast() && ip != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// IsLocalhost reports whether the address has the name localhost, which is this machine without any look-up (see
// dial.Endpoint). It is one endpoint with two IP addresses, since a server may listen at only one of them. Names such as
// x.localhost are looked up like any other.
func (a Address) IsLocalhost() bool { return dial.IsLocalhost(a.Host) }

// HostPort returns the text of an address that has an IP.
func (a Address) HostPort() string { return netip.AddrPortFrom(a.IP, a.Port).String() }

// IsName reports whether the address has a host name that is to be looked up.
func (a Address) IsName() bool { return a.Host != "" && !a.IsLocalhost() }

// Loopbacks are the IP addresses of localhost.
var Loopbacks = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// IPs returns the IP addresses that are known without a look-up.
func (a Address) IPs() []netip.Addr {
	switch {
	case a.IP.IsValid():
		return []netip.Addr{a.IP}
	case a.IsLocalhost():
		return Loopbacks
	}
	return nil
}
