// Package dial connects to endpoints.
package dial

import (
	"context"
	"net"
	"strings"
)

// Endpoint connects with d to an address: host:port or unix:/path. localhost is 127.0.0.1 or else ::1 (RFC 6761 §6.3),
// whatever files and servers say of it: nobody is asked, so that no other address than those can come of it.
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

// IsLocalhost reports whether a host is the one that Endpoint asks nobody about. Names below it, such as a.localhost, are
// as any other.
func IsLocalhost(host string) bool {
	return strings.EqualFold(strings.TrimSuffix(host, "."), "localhost")
}
