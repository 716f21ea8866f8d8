package health

import (
	"context"
	"net"
	"strings"
)

// tcpProber connects.
type tcpProber struct{ address string }

func (p *tcpProber) probe(ctx context.Context) error {
	nc, err := dial(ctx, p.address)
	if err != nil {
		return err
	}
	return nc.Close()
}

func (p *tcpProber) close() {}

// dial connects to host:port or unix:/path.
func dial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return d.DialContext(ctx, "unix", path)
	}
	return d.DialContext(ctx, "tcp", address)
}
