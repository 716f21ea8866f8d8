// Package dial connects to endpoints.
package dial

import (
	"context"
	"net"
	"strings"
)

// Endpoint connects with d to an address: host:port or unix:/path. It connects to localhost at 127.0.0.1 or, if that fails,
// at ::1 (RFC 6761 §6.3). It does not look localhost up, so that neither the hosts file nor a DNS server can give it another
// address.
func Endpoint(ctx context.Context, d *net.Dialer, address string) (net.Conn, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return d.DialContext(ctx, "unix", path)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || !IsLocalhost(host) {
		return d.DialContext(ctx, "tcp", address)
	}
	nc, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err == nil || ctx.Err() != nil {
		return nc, err
	}
	if nc, other := d.DialContext(ctx, "tcp", net.JoinHostPort("::1", port)); other == nil {
		return nc, nil
	}
	return nil, err
}

// IsLocalhost reports whether a host is localhost, which Endpoint does not look up. It is false for names below it, such as
// a.localhost.
func IsLocalhost(host string) bool {
	return strings.EqualFold(strings.TrimSuffix(host, "."), "localhost")
}
