package spec

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// WhenFull says what becomes of a call to an endpoint all of whose connections are full.
type WhenFull string

// What may become of it.
const (
	WhenFullWait WhenFull = "wait" // it waits for a stream until its deadline
	WhenFullFail WhenFull = "fail" // it is refused
	WhenFullGrow WhenFull = "grow" // up to five times as many connections are made; then it waits
)

var whenFulls = []WhenFull{WhenFullWait, WhenFullFail, WhenFullGrow}

// PoolPolicy says how the endpoints of a backend are connected to. In a route what is left out is as the gateway has it:
// "upstream:" of its configuration, which is a PoolPolicy too and where each key is described (conf/framegate.yaml).
// Times of which 0s means never there are below 0s here.
type PoolPolicy struct {
	Connections          Connections   `yaml:"connections,omitempty"`
	StreamsPerConnection int           `yaml:"streams_per_connection,omitempty"`
	WhenFull             WhenFull      `yaml:"when_full,omitempty"`
	ConnectTimeout       time.Duration `yaml:"connect_timeout,omitempty"`
	IdleTimeout          time.Duration `yaml:"idle_timeout,omitempty"`
	MaxAge               time.Duration `yaml:"max_age,omitempty"`
	Backoff              Backoff       `yaml:"backoff,omitempty"`
	Keepalive            Keepalive     `yaml:"keepalive,omitempty"`
	StreamWindow         uint32        `yaml:"stream_window,omitempty"`
	ConnectionWindow     uint32        `yaml:"connection_window,omitempty"`
	MaxHeaderBytes       uint32        `yaml:"max_header_bytes,omitempty"`
}

// Connections bounds the connections to one endpoint.
type Connections struct {
	Min int `yaml:"min,omitempty"` // that are kept
	Max int `yaml:"max,omitempty"`
}

// Keepalive says how endpoints are probed.
type Keepalive struct {
	Time    time.Duration `yaml:"time,omitempty"`
	Timeout time.Duration `yaml:"timeout,omitempty"`
}

// Bounds of a PoolPolicy.
const (
	maxConnections      = 1024
	maxStreams          = 1 << 20
	minPoolTimeout      = time.Millisecond
	maxPoolTimeout      = 24 * time.Hour
	minMaxAge           = time.Second
	minKeepalive        = time.Second
	minWindow           = 65535     // RFC 9113 §6.9.2; Kitex ignores less
	maxWindow           = 1<<31 - 1 // RFC 9113 §6.9.1
	leastMaxHeaderBytes = 4096
)

// problems returns every mistake of the policy whose path is key. What is left out is no mistake.
func (p PoolPolicy) problems(key string) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(key+"."+format, args...)) }
	number := func(key string, n, least, most int) {
		if n != 0 && (n < least || n > most) {
			fail("%s: %d, want %d to %d", key, n, least, most)
		}
	}
	duration := func(key string, d, least time.Duration) {
		if d != 0 && (d < least || d > maxPoolTimeout) {
			fail("%s: %s, want %s to %s", key, d, least, maxPoolTimeout)
		}
	}
	number("connections.min", p.Connections.Min, 1, maxConnections)
	number("connections.max", p.Connections.Max, 1, maxConnections)
	if p.Connections.Max != 0 && p.Connections.Min > p.Connections.Max {
		fail("connections.min: %d, want at most connections.max (%d)", p.Connections.Min, p.Connections.Max)
	}
	number("streams_per_connection", p.StreamsPerConnection, 1, maxStreams)
	if p.WhenFull != "" && !slices.Contains(whenFulls, p.WhenFull) {
		fail("when_full: %q, want %s", p.WhenFull, choices(whenFulls))
	}
	duration("connect_timeout", p.ConnectTimeout, minPoolTimeout)
	orNever := func(key string, d, least time.Duration) {
		if d > 0 {
			duration(key, d, least)
		}
	}
	orNever("idle_timeout", p.IdleTimeout, minPoolTimeout)
	orNever("max_age", p.MaxAge, minMaxAge)
	for _, err := range p.Backoff.problems() {
		fail("%w", err)
	}
	orNever("keepalive.time", p.Keepalive.Time, minKeepalive)
	duration("keepalive.timeout", p.Keepalive.Timeout, minKeepalive)
	number("stream_window", int(p.StreamWindow), minWindow, maxWindow)
	number("connection_window", int(p.ConnectionWindow), minWindow, maxWindow)
	if p.ConnectionWindow != 0 && p.ConnectionWindow < p.StreamWindow { // RFC 9113 §6.9.1: both count
		fail("connection_window: %d, want at least stream_window (%d)", p.ConnectionWindow, p.StreamWindow)
	}
	number("max_header_bytes", int(p.MaxHeaderBytes), leastMaxHeaderBytes, maxWindow)
	return errs
}

// WithDefaultsFrom returns the policy of a backend that says p where the gateway says base, which says everything. Where a bound that
// p sets contradicts one of base, that one gives way.
func (p PoolPolicy) WithDefaultsFrom(base PoolPolicy) PoolPolicy {
	merged := PoolPolicy{
		Connections:          Connections{Min: cmp.Or(p.Connections.Min, base.Connections.Min), Max: cmp.Or(p.Connections.Max, base.Connections.Max)},
		StreamsPerConnection: cmp.Or(p.StreamsPerConnection, base.StreamsPerConnection),
		WhenFull:             cmp.Or(p.WhenFull, base.WhenFull),
		ConnectTimeout:       cmp.Or(p.ConnectTimeout, base.ConnectTimeout),
		IdleTimeout:          cmp.Or(p.IdleTimeout, base.IdleTimeout),
		MaxAge:               max(0, cmp.Or(p.MaxAge, base.MaxAge)),
		Backoff:              Backoff{Base: cmp.Or(p.Backoff.Base, base.Backoff.Base), Max: cmp.Or(p.Backoff.Max, base.Backoff.Max)},
		Keepalive:            Keepalive{Time: max(0, cmp.Or(p.Keepalive.Time, base.Keepalive.Time)), Timeout: cmp.Or(p.Keepalive.Timeout, base.Keepalive.Timeout)},
		StreamWindow:         cmp.Or(p.StreamWindow, base.StreamWindow),
		ConnectionWindow:     cmp.Or(p.ConnectionWindow, base.ConnectionWindow),
		MaxHeaderBytes:       cmp.Or(p.MaxHeaderBytes, base.MaxHeaderBytes),
	}
	atMost(&merged.Connections.Min, &merged.Connections.Max, p.Connections.Max)
	atMost(&merged.Backoff.Base, &merged.Backoff.Max, p.Backoff.Max)
	atMost(&merged.StreamWindow, &merged.ConnectionWindow, p.ConnectionWindow)
	return merged
}

// atMost makes the lower of two bounds at most the upper: it lowers the lower one if the policy says what the upper is,
// and else raises the upper one.
func atMost[T cmp.Ordered](lower, upper *T, said T) {
	var none T
	switch {
	case *lower <= *upper:
	case said != none:
		*lower = *upper
	default:
		*upper = *lower
	}
}
