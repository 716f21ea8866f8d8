package health

import "context"

// prober checks one address. Only one goroutine uses it.
type prober interface {
	// probe makes one check, until ctx ends at the latest. Its error says why the endpoint is not good, for people.
	probe(ctx context.Context) error
	close()
}

func newProber(address string, cfg Config) prober {
	if cfg.Type == TypeTCP {
		return &tcpProber{address: address}
	}
	return newGRPCProber(address, cfg)
}
