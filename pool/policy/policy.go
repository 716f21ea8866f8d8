// Package policy says how connections to endpoints are made and kept: a document of configuration and of routes, with its
// defaults and bounds. Package pool does what it says.
package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Policy is how connections to endpoints are made and kept. What is zero is left out: the gateway's policy has the default
// for it, and that of a backend what the gateway's has. Each key is described in conf/framegate.yaml. Policies can be compared
// with ==.
type Policy struct {
	Connections          Connections   `yaml:"connections,omitempty"`
	StreamsPerConnection int           `yaml:"streams_per_connection,omitempty"` // at most, or the peer's MAX_CONCURRENT_STREAMS if that is less
	WhenFull             WhenFull      `yaml:"when_full,omitempty"`
	ConnectTimeout       time.Duration `yaml:"connect_timeout,omitempty"` // of a dial until the peer's SETTINGS, and of waiting by a call without a deadline
	IdleTimeout          time.Duration `yaml:"idle_timeout,omitempty"`    // a connection without streams is closed after it; below 0 for never

	// MaxAge, up to a tenth more or less, is when a connection is replaced: it takes no new streams once another is there, and
	// closes with its last stream. It is kept while no other can be made. Below 0 for never, which is the default.
	MaxAge           time.Duration `yaml:"max_age,omitempty"`
	Backoff          Backoff       `yaml:"backoff,omitempty"`
	Keepalive        Keepalive     `yaml:"keepalive,omitempty"`
	StreamWindow     uint32        `yaml:"stream_window,omitempty"`     // bytes that an endpoint may send on one stream before they are read
	ConnectionWindow uint32        `yaml:"connection_window,omitempty"` // the same on one connection
	MaxHeaderBytes   uint32        `yaml:"max_header_bytes,omitempty"`  // of the headers of one answer
}

// Connections bounds the connections to one endpoint.
type Connections struct {
	Min int `yaml:"min,omitempty"` // that an endpoint in use has, kept also while they are idle; 0 means that none is made before a call
	Max int `yaml:"max,omitempty"` // but see WhenFullGrow
}

// WhenFull says what becomes of a call to an endpoint that is full: it has Connections.Max connections, and each has as many
// streams as it may. Calls that wait are served in the order in which they came.
type WhenFull string

// What becomes of it. It waits for a stream until its context ends, or for ConnectTimeout if that has no deadline.
const (
	WhenFullWait WhenFull = "wait"
	WhenFullFail WhenFull = "fail" // it fails at once
	WhenFullGrow WhenFull = "grow" // it has a connection made, up to five times Connections.Max; then it waits
)

var whenFulls = []WhenFull{WhenFullWait, WhenFullFail, WhenFullGrow}

// Backoff says how long an endpoint is left alone after a dial that failed: Base, twice as long after each further failure in
// a row, Max at most, and up to a quarter less by chance.
type Backoff struct {
	Base time.Duration `yaml:"base,omitempty"`
	Max  time.Duration `yaml:"max,omitempty"`
}

// After returns how long to rest after so many failures in a row. chance is from 0 to below 1.
func (b Backoff) After(failures int, chance float64) time.Duration {
	d := b.Base
	for ; failures > 1 && d < b.Max; failures-- {
		d *= 2
	}
	d = min(d, b.Max)
	return d - time.Duration(chance*float64(d)/4)
}

// Keepalive says how connections are probed.
type Keepalive struct {
	Time    time.Duration `yaml:"time,omitempty"`    // how long the peer may be silent before a ping, while there are streams; below 0 for never
	Timeout time.Duration `yaml:"timeout,omitempty"` // how long a ping may stay without an answer
}

// Default is the policy of a gateway that says nothing.
func Default() Policy {
	return Policy{
		Connections: Connections{Max: 8}, StreamsPerConnection: 256, WhenFull: WhenFullGrow,
		ConnectTimeout: 5 * time.Second, IdleTimeout: 5 * time.Minute,
		Backoff: Backoff{Base: 100 * time.Millisecond, Max: 2 * time.Second}, Keepalive: Keepalive{Time: 30 * time.Second, Timeout: 20 * time.Second},
		StreamWindow: 256 << 10, ConnectionWindow: 1 << 20, MaxHeaderBytes: 64 << 10,
	}
}

// Bounds of flow-control windows, in bytes: RFC 9113 §6.9.1 and, for the least, §6.9.2; Kitex ignores less.
const (
	MinWindow = 65535
	MaxWindow = 1<<31 - 1
)

// Bounds of the others.
const (
	maxConnections = 1024
	maxStreams     = 1 << 20
	minTimeout     = time.Millisecond
	minMaxAge      = time.Second
	minKeepalive   = time.Second
	maxTimeout     = 365 * 24 * time.Hour
	minHeaderBytes = 4096
)

// Problems returns every mistake, each beginning with its key. What is left out is no mistake.
func (p Policy) Problems() (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	number := func(key string, n, least, most int) {
		if n != 0 && (n < least || n > most) {
			fail("%s: %d, want %d to %d", key, n, least, most)
		}
	}
	duration := func(key string, d, least time.Duration) {
		if d != 0 && (d < least || d > maxTimeout) {
			fail("%s: %s, want %s to %s", key, d, least, maxTimeout)
		}
	}
	orNever := func(key string, d, least time.Duration) {
		if d > 0 && (d < least || d > maxTimeout) {
			fail("%s: %s, want %s to %s, or less than 0s (never)", key, d, least, maxTimeout)
		}
	}
	number("connections.min", p.Connections.Min, 1, maxConnections)
	number("connections.max", p.Connections.Max, 1, maxConnections)
	if p.Connections.Max > 0 && p.Connections.Min > p.Connections.Max {
		fail("connections.min: %d, want at most connections.max (%d)", p.Connections.Min, p.Connections.Max)
	}
	number("streams_per_connection", p.StreamsPerConnection, 1, maxStreams)
	if p.WhenFull != "" && !slices.Contains(whenFulls, p.WhenFull) {
		fail("when_full: %q, want wait, fail or grow", p.WhenFull)
	}
	duration("connect_timeout", p.ConnectTimeout, minTimeout)
	orNever("idle_timeout", p.IdleTimeout, minTimeout)
	orNever("max_age", p.MaxAge, minMaxAge)
	duration("backoff.base", p.Backoff.Base, minTimeout)
	if least := max(p.Backoff.Base, minTimeout); p.Backoff.Max != 0 && (p.Backoff.Max < least || p.Backoff.Max > maxTimeout) {
		fail("backoff.max: %s, want backoff.base (%s) to %s", p.Backoff.Max, least, maxTimeout)
	}
	orNever("keepalive.time", p.Keepalive.Time, minKeepalive)
	duration("keepalive.timeout", p.Keepalive.Timeout, minKeepalive)
	number("stream_window", int(p.StreamWindow), MinWindow, MaxWindow)
	number("connection_window", int(p.ConnectionWindow), MinWindow, MaxWindow)
	if p.ConnectionWindow != 0 && p.ConnectionWindow < p.StreamWindow { // RFC 9113 §6.9.1: both count
		fail("connection_window: %d, want at least stream_window (%d)", p.ConnectionWindow, p.StreamWindow)
	}
	number("max_header_bytes", int(p.MaxHeaderBytes), minHeaderBytes, MaxWindow)
	return errs
}

// Validate returns all Problems as one error, nil for none.
func (p Policy) Validate() error { return errors.Join(p.Problems()...) }

// WithDefaultsFrom returns p with what it leaves out as base has it. Where a bound that p sets contradicts one of base, that
// one gives way.
func (p Policy) WithDefaultsFrom(base Policy) Policy {
	merged := Policy{
		Connections:          Connections{Min: cmp.Or(p.Connections.Min, base.Connections.Min), Max: cmp.Or(p.Connections.Max, base.Connections.Max)},
		StreamsPerConnection: cmp.Or(p.StreamsPerConnection, base.StreamsPerConnection),
		WhenFull:             cmp.Or(p.WhenFull, base.WhenFull),
		ConnectTimeout:       cmp.Or(p.ConnectTimeout, base.ConnectTimeout),
		IdleTimeout:          cmp.Or(p.IdleTimeout, base.IdleTimeout),
		MaxAge:               cmp.Or(p.MaxAge, base.MaxAge),
		Backoff:              Backoff{Base: cmp.Or(p.Backoff.Base, base.Backoff.Base), Max: cmp.Or(p.Backoff.Max, base.Backoff.Max)},
		Keepalive:            Keepalive{Time: cmp.Or(p.Keepalive.Time, base.Keepalive.Time), Timeout: cmp.Or(p.Keepalive.Timeout, base.Keepalive.Timeout)},
		StreamWindow:         cmp.Or(p.StreamWindow, base.StreamWindow),
		ConnectionWindow:     cmp.Or(p.ConnectionWindow, base.ConnectionWindow),
		MaxHeaderBytes:       cmp.Or(p.MaxHeaderBytes, base.MaxHeaderBytes),
	}
	inOrder(&merged.Connections.Min, &merged.Connections.Max, p.Connections.Max)
	inOrder(&merged.Backoff.Base, &merged.Backoff.Max, p.Backoff.Max)
	inOrder(&merged.StreamWindow, &merged.ConnectionWindow, p.ConnectionWindow)
	return merged
}

// inOrder makes the lower of two bounds at most the upper: it lowers the lower one if the policy says what the upper is, and
// else raises the upper one.
func inOrder[T cmp.Ordered](lower, upper *T, said T) {
	var none T
	switch {
	case *lower <= *upper:
	case said != none:
		*lower = *upper
	default:
		*upper = *lower
	}
}
