package dns

import (
	"cmp"
	"fmt"
	"time"
)

// Config says how the host names of endpoints are followed. The zero value of a field means its default. Configs can be
// compared with ==.
type Config struct {
	Refresh time.Duration `yaml:"refresh,omitempty"` // from one look-up to the next, at most; default 30s, 100ms to 24h
}

// DefaultRefresh is the TTL that CoreDNS gives to the records of a Kubernetes service.
const DefaultRefresh = 30 * time.Second

const (
	minRefresh = 100 * time.Millisecond
	maxRefresh = 24 * time.Hour
)

// WithDefaults returns the Config with a value in every field.
func (c Config) WithDefaults() Config {
	c.Refresh = cmp.Or(c.Refresh, DefaultRefresh)
	return c
}

// Validate reports every field that is out of bounds, by its name in a document.
func (c Config) Validate() error {
	if c = c.WithDefaults(); c.Refresh < minRefresh || c.Refresh > maxRefresh {
		return fmt.Errorf("refresh: %s, want %s to %s", c.Refresh, minRefresh, maxRefresh)
	}
	return nil
}
