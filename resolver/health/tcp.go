package health

import (
	"context"
	"net"

	"github.com/framegate/framegate/pool/dial"
)

// tcpProber connects, and closes the connection at once.
type tcpProber struct{ address string }

func (p *tcpProber) probe(ctx context.Context) error {
	nc, err := dial.Endpoint(ctx, &net.Dialer{}, p.address)
	if err != nil {
		return err
	}
	return nc.Close()
}

func (p *tcpProber) close() {}
