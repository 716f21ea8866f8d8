package pool

import "github.com/framegate/framegate/pool/policy"

// Config is the policy of one Group: how the connections to its endpoints are made and kept. The zero value of a field means
// its default, except for MaxAge and Keepalive.Time, where 0 and less mean never. Configs can be compared with ==.
type Config = policy.Policy

// growFactor times Connections.Max is the bound of the connections to one endpoint with WhenFullGrow.
const growFactor = 5

func withDefaults(c Config) Config {
	base := policy.Default()
	base.Keepalive.Time = 0
	c = c.WithDefaultsFrom(base)
	c.MaxAge, c.Keepalive.Time = max(0, c.MaxAge), max(0, c.Keepalive.Time)
	return c
}

// maxConnections returns how many connections to one endpoint there may be while calls wait for streams.
func maxConnections(c *Config) int {
	if c.WhenFull == policy.WhenFullGrow {
		return growFactor * c.Connections.Max
	}
	return c.Connections.Max
}
