package health

import "context"

// prober checks one address. Only one goroutine uses it.
type prober interface {
	// probe makes one check, which ends with ctx at the latest. The error says for people why the endpoint is unhealthy.
	probe(ctx context.Context) error
	close()
}

func newProber(address string, cfg Config) prober {
	if cfg.Type == TypeTCP {
		return &tcpProber{address: address}
	}
	return newGRPCProber(address, cfg)
}
