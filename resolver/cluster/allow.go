package cluster

import (
	"fmt"
	"net/netip"
	"path"
	"strings"

	"github.com/framegate/framegate/resolver/spec"
)

// Allow says at which addresses instances of services may be. The zero value allows none; see ParseAllow.
type Allow struct {
	networks []netip.Prefix
	paths    []string // patterns of unix sockets, as in path.Match
	text     string   // of all entries, for people
}

// DefaultAllow has the entries that allow every TCP address and no unix socket.
var DefaultAllow = []string{"0.0.0.0/0", "::/0"}

// ParseAllow reads entries that are a CIDR network or unix: with a pattern of absolute paths, as in path.Match.
func ParseAllow(entries []string) (Allow, error) {
	a := Allow{text: strings.Join(entries, ", ")}
	for i, e := range entries {
		if pattern, ok := strings.CutPrefix(e, spec.UnixPrefix); ok {
			if _, err := path.Match(pattern, ""); err != nil || !cleanPath(pattern) {
				return Allow{}, fmt.Errorf("[%d]: %q, want unix:/path, in which * stands for any characters but a slash", i, e)
			}
			a.paths = append(a.paths, pattern)
			continue
		}
		network, err := netip.ParsePrefix(e)
		if err != nil {
			return Allow{}, fmt.Errorf("[%d]: %q, want a network such as 10.0.0.0/8 or fd00::/8, or unix:/run/app/*", i, e)
		}
		if ip := network.Addr(); ip.Is4In6() && network.Bits() >= 96 {
			network = netip.PrefixFrom(ip.Unmap(), network.Bits()-96)
		}
		a.networks = append(a.networks, network)
	}
	return a, nil
}

// cleanPath reports whether a path is absolute and clean, so that it has no .. in it.
func cleanPath(s string) bool { return strings.HasPrefix(s, "/") && path.Clean(s) == s }

func (a *Allow) ip(ip netip.Addr) bool {
	for _, n := range a.networks {
		if n.Contains(ip.Unmap().WithZone("")) {
			return true
		}
	}
	return false
}

func (a *Allow) path(s string) bool {
	for _, pattern := range a.paths {
		if ok, _ := path.Match(pattern, s); ok && cleanPath(s) {
			return true
		}
	}
	return false
}
