package pool

import "github.com/framegate/framegate/pool/policy"

// Config says how the connections to the endpoints of one Group are made and kept. The zero value of a field means its
// default, but for MaxAge and Keepalive.Time: 0 and less mean never. Configs can be compared with ==.
type Config = policy.Policy

// growFactor is how many times Connections.Max there may be with WhenFullGrow.
const growFactor = 5

func withDefaults(c Config) Config {
	base := policy.Default()
	base.Keepalive.Time = 0
	c = c.WithDefaultsFrom(base)
	c.MaxAge, c.Keepalive.Time = max(0, c.MaxAge), max(0, c.Keepalive.Time)
	return c
}

// maxConnections is how many connections to one endpoint there may be for calls that would wait otherwise.
func maxConnections(c *Config) int {
	if c.WhenFull == policy.WhenFullGrow {
		return growFactor * c.Connections.Max
	}
	return c.Connections.Max
}
