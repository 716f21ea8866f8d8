// Package policy has the policy by which package pool makes and keeps connections to endpoints. It is a part of the
// configuration, and of routes.
package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Policy says how connections to endpoints are made and kept. A field that is zero is left out: the gateway's policy takes
// its default, and a backend's policy takes the value of the gateway's. conf/framegate.yaml describes each key. Policies can
// be compared with ==.
type Policy struct {
	Connections          Connections   `yaml:"connections,omitempty"`
	StreamsPerConnection int           `yaml:"streams_per_connection,omitempty"` // bound; the peer's MAX_CONCURRENT_STREAMS if that is less
	WhenFull             WhenFull      `yaml:"when_full,omitempty"`
	ConnectTimeout       time.Duration `yaml:"connect_timeout,omitempty"` // of a dial until the peer's SETTINGS have come, and of the wait of a call without a deadline
	IdleTimeout          time.Duration `yaml:"idle_timeout,omitempty"`    // after which a connection without streams is closed; below 0 means never

	// MaxAge, changed at random by up to a tenth, is the age at which a connection is replaced. When there is a new
	// connection, the old one takes no new streams, and closes with its last stream. While no new connection can be made, it
	// is kept. Below 0 means never, which is the default.
	MaxAge           time.Duration `yaml:"max_age,omitempty"`
	Backoff          Backoff       `yaml:"backoff,omitempty"`
	Keepalive        Keepalive     `yaml:"keepalive,omitempty"`
	StreamWindow     uint32        `yaml:"stream_window,omitempty"`     // flow-control window of a stream: bytes that an endpoint may send before they are read
	ConnectionWindow uint32        `yaml:"connection_window,omitempty"` // flow-control window of a connection
	MaxHeaderBytes   uint32        `yaml:"max_header_bytes,omitempty"`  // of the headers, or the trailers, of one answer
}

// Connections bounds the connections to one endpoint.
type Connections struct {
	Min int `yaml:"min,omitempty"` // kept for an endpoint in use, even if they are idle; 0 means that none is made before a call needs it
	Max int `yaml:"max,omitempty"` // with WhenFullGrow there may be more
}

// WhenFull says what happens to a call to an endpoint that is full: it has Connections.Max connections, each with as many
// streams as it may have. Calls that wait are served in the order in which they came.
type WhenFull string

// The values of WhenFull.
const (
	WhenFullWait WhenFull = "wait" // the call waits for a stream until its context ends, or for ConnectTimeout if that has no deadline
	WhenFullFail WhenFull = "fail" // the call fails at once
	WhenFullGrow WhenFull = "grow" // another connection is made, up to five times Connections.Max; at that bound the call waits
)

var whenFulls = []WhenFull{WhenFullWait, WhenFullFail, WhenFullGrow}

// Backoff says how long an endpoint backs off after a failed dial: for Base, twice as long after each further consecutive
// failure, up to Max. Each of these times is shortened at random by up to a quarter.
type Backoff struct {
	Base time.Duration `yaml:"base,omitempty"`
	Max  time.Duration `yaml:"max,omitempty"`
}

// After returns how long an endpoint backs off after that many consecutive failures. chance is from 0 to below 1.
func (b Backoff) After(failures int, chance float64) time.Duration {
	d := b.Base
	for ; failures > 1 && d < b.Max; failures-- {
		d *= 2
	}
	d = min(d, b.Max)
	return d - time.Duration(chance*float64(d)/4)
}

// Keepalive says how connections are probed with pings.
type Keepalive struct {
	Time    time.Duration `yaml:"time,omitempty"`    // how long the peer may be silent before a ping, while there are streams; below 0 means never
	Timeout time.Duration `yaml:"timeout,omitempty"` // how long a ping may stay without an answer
}

// Default returns the policy of a gateway whose configuration leaves everything out.
func Default() Policy {
	return Policy{
		Connections: Connections{Max: 8}, StreamsPerConnection: 256, WhenFull: WhenFullGrow,
		ConnectTimeout: 5 * time.Second, IdleTimeout: 5 * time.Minute,
		Backoff: Backoff{Base: 100 * time.Millisecond, Max: 2 * time.Second}, Keepalive: Keepalive{Time: 30 * time.Second, Timeout: 20 * time.Second},
		StreamWindow: 256 << 10, ConnectionWindow: 1 << 20, MaxHeaderBytes: 64 << 10,
	}
}

// Bounds of flow-control windows, in bytes. MinWindow is the initial window of HTTP/2 (RFC 9113 §6.9.2), because Kitex
// ignores a smaller one; MaxWindow is that of RFC 9113 §6.9.1.
const (
	MinWindow = 65535
	MaxWindow = 1<<31 - 1
)

// Bounds of the other fields.
const (
	maxConnections = 1024
	maxStreams     = 1 << 20
	minTimeout     = time.Millisecond
	minMaxAge      = time.Second
	minKeepalive   = time.Second
	maxTimeout     = 365 * 24 * time.Hour
	minHeaderBytes = 4096
)

// Problems returns every mistake in p, each beginning with its key. A field that is left out is no mistake.
func (p Policy) Problems() (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	number := func(key string, n, lower, upper int) {
		if n != 0 && (n < lower || n > upper) {
			fail("%s: %d, want %d to %d", key, n, lower, upper)
		}
	}
	duration := func(key string, d, lower time.Duration) {
		if d != 0 && (d < lower || d > maxTimeout) {
			fail("%s: %s, want %s to %s", key, d, lower, maxTimeout)
		}
	}
	orNever := func(key string, d, lower time.Duration) {
		if d > 0 && (d < lower || d > maxTimeout) {
			fail("%s: %s, want %s to %s, or less than 0s (never)", key, d, lower, maxTimeout)
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
	if lower := max(p.Backoff.Base, minTimeout); p.Backoff.Max != 0 && (p.Backoff.Max < lower || p.Backoff.Max > maxTimeout) {
		fail("backoff.max: %s, want backoff.base (%s) to %s", p.Backoff.Max, lower, maxTimeout)
	}
	orNever("keepalive.time", p.Keepalive.Time, minKeepalive)
	duration("keepalive.timeout", p.Keepalive.Timeout, minKeepalive)
	number("stream_window", int(p.StreamWindow), MinWindow, MaxWindow)
	number("connection_window", int(p.ConnectionWindow), MinWindow, MaxWindow)
	if p.ConnectionWindow != 0 && p.ConnectionWindow < p.StreamWindow { // RFC 9113 §6.9.1: DATA counts against both windows
		fail("connection_window: %d, want at least stream_window (%d)", p.ConnectionWindow, p.StreamWindow)
	}
	number("max_header_bytes", int(p.MaxHeaderBytes), minHeaderBytes, MaxWindow)
	return errs
}

// Validate returns all Problems as one error, or nil if there are none.
func (p Policy) Validate() error { return errors.Join(p.Problems()...) }

// WithDefaultsFrom returns p with the values of base for the fields that p leaves out. If a bound that p sets contradicts a
// bound from base, the one from base is changed.
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

// inOrder changes two merged bounds so that lower is not over upper. set is the policy's own upper bound, zero if it leaves
// that out: if the policy sets the upper bound, inOrder reduces the lower one, else it raises the upper one.
func inOrder[T cmp.Ordered](lower, upper *T, set T) {
	var none T
	switch {
	case *lower <= *upper:
	case set != none:
		*lower = *upper
	default:
		*upper = *lower
	}
}
