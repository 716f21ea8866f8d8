package pool

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/framegate/framegate/pool/h2conn"
)

// Config says how the connections to the endpoints of one Group are made and kept. The zero value of a field means its
// default, except where "0" is given a meaning. Configs can be compared with ==.
type Config struct {
	MinConnections       int      // to an endpoint in use, kept also while they are idle; 0, the default, means none is made before a call
	MaxConnections       int      // to one endpoint, but see WhenFullGrow; default 8, at most 1024
	StreamsPerConnection int      // at most, or the peer's MAX_CONCURRENT_STREAMS if that is less; default 256
	WhenFull             WhenFull // what a call does when all of MaxConnections have no stream left; default WhenFullGrow

	ConnectTimeout time.Duration // of a dial until the peer's SETTINGS, and of waiting by a call without a deadline; default 5s
	IdleTimeout    time.Duration // a connection without streams is closed after it; default 5m, negative means never
	// MaxAge, up to a tenth more or less, is when a connection is replaced: it takes no new streams once another is
	// there, and closes with its last stream. It is kept while no other can be made. 0 means never.
	MaxAge    time.Duration
	Backoff   Backoff
	Keepalive h2conn.Keepalive

	StreamWindow     uint32 // bytes that an endpoint may send on one stream before we read them; default 256 KiB
	ConnectionWindow uint32 // the same on one connection; default 1 MiB
	MaxHeaderBytes   uint32 // of the headers of one answer; default 64 KiB
}

// WhenFull says what becomes of a call to an endpoint that is full: it has MaxConnections connections, and each has as
// many streams as it may. Calls that wait are served in the order in which they came.
type WhenFull string

// What a call does. It waits for a stream until its context ends, or for ConnectTimeout if that has no deadline.
const (
	WhenFullWait WhenFull = "wait"
	WhenFullFail WhenFull = "fail" // it fails with a *FullError at once
	WhenFullGrow WhenFull = "grow" // it has a connection made, up to five times MaxConnections; then it waits
)

// growFactor is how many times MaxConnections there may be with WhenFullGrow.
const growFactor = 5

// Backoff says how long an endpoint is left alone after a dial that failed: Base, twice as long after each further
// failure in a row, Max at most, and up to a quarter less by chance.
type Backoff struct {
	Base time.Duration // default 100ms
	Max  time.Duration // default 2s
}

// Defaults.
const (
	DefaultMaxConnections       = 8
	DefaultStreamsPerConnection = 256
	DefaultWhenFull             = WhenFullGrow
	DefaultConnectTimeout       = 5 * time.Second
	DefaultIdleTimeout          = 5 * time.Minute
	DefaultBackoffBase          = 100 * time.Millisecond
	DefaultBackoffMax           = 2 * time.Second
	DefaultKeepaliveTime        = 30 * time.Second
	DefaultKeepaliveTimeout     = 20 * time.Second
	DefaultStreamWindow         = 256 << 10
	DefaultConnectionWindow     = 1 << 20
	DefaultMaxHeaderBytes       = 64 << 10
)

// Bounds of flow-control windows, in bytes: RFC 9113 §6.9.1 and, for the least, §6.9.2; Kitex ignores less.
const (
	MinWindow = 65535
	MaxWindow = 1<<31 - 1
)

// Bounds of counts and times.
const (
	maxConnections = 1024
	minTimeout     = time.Millisecond
	minMaxAge      = time.Second
	minKeepalive   = time.Second
	maxTimeout     = 365 * 24 * time.Hour
)

func (c Config) withDefaults() Config {
	c.MaxConnections = cmp.Or(c.MaxConnections, DefaultMaxConnections)
	c.StreamsPerConnection = cmp.Or(c.StreamsPerConnection, DefaultStreamsPerConnection)
	c.WhenFull = cmp.Or(c.WhenFull, DefaultWhenFull)
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, DefaultConnectTimeout)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, DefaultIdleTimeout)
	c.Backoff.Base = cmp.Or(c.Backoff.Base, DefaultBackoffBase)
	c.Backoff.Max = cmp.Or(c.Backoff.Max, max(DefaultBackoffMax, c.Backoff.Base))
	c.Keepalive.Timeout = cmp.Or(c.Keepalive.Timeout, DefaultKeepaliveTimeout)
	c.StreamWindow = cmp.Or(c.StreamWindow, DefaultStreamWindow)
	c.ConnectionWindow = cmp.Or(c.ConnectionWindow, DefaultConnectionWindow)
	c.MaxHeaderBytes = cmp.Or(c.MaxHeaderBytes, DefaultMaxHeaderBytes)
	return c
}

// Validate reports every field that is out of bounds, by its name in the configuration file.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.MinConnections >= 0 && c.MinConnections <= max(0, c.MaxConnections), "connections.min: %d, want 0 to connections.max (%d)", c.MinConnections, c.MaxConnections)
	check(c.MaxConnections >= 1 && c.MaxConnections <= maxConnections, "connections.max: %d, want 1 to %d", c.MaxConnections, maxConnections)
	check(c.StreamsPerConnection >= 1, "streams_per_connection: %d, want 1 or more", c.StreamsPerConnection)
	check(c.WhenFull == WhenFullWait || c.WhenFull == WhenFullFail || c.WhenFull == WhenFullGrow, "when_full: %q, want wait, fail or grow", c.WhenFull)
	in := func(d, least time.Duration) bool { return d >= least && d <= maxTimeout }
	check(in(c.ConnectTimeout, minTimeout), "connect_timeout: %s, want %s to %s", c.ConnectTimeout, minTimeout, maxTimeout)
	check(c.IdleTimeout < 0 || in(c.IdleTimeout, minTimeout), "idle_timeout: %s, want %s to %s, or less than 0s (never)", c.IdleTimeout, minTimeout, maxTimeout)
	check(c.MaxAge == 0 || in(c.MaxAge, minMaxAge), "max_age: %s, want 0s (never) or %s to %s", c.MaxAge, minMaxAge, maxTimeout)
	check(in(c.Backoff.Base, minTimeout), "backoff.base: %s, want %s to %s", c.Backoff.Base, minTimeout, maxTimeout)
	check(in(c.Backoff.Max, c.Backoff.Base), "backoff.max: %s, want backoff.base (%s) to %s", c.Backoff.Max, c.Backoff.Base, maxTimeout)
	check(c.Keepalive.Time == 0 || in(c.Keepalive.Time, minKeepalive), "keepalive.time: %s, want 0s (never) or %s to %s", c.Keepalive.Time, minKeepalive, maxTimeout)
	check(in(c.Keepalive.Timeout, minKeepalive), "keepalive.timeout: %s, want %s to %s", c.Keepalive.Timeout, minKeepalive, maxTimeout)
	check(c.StreamWindow >= MinWindow && c.StreamWindow <= MaxWindow, "stream_window: %d, want %d to %d", c.StreamWindow, MinWindow, MaxWindow)
	check(c.ConnectionWindow >= c.StreamWindow && c.ConnectionWindow <= MaxWindow, "connection_window: %d, want stream_window (%d) to %d", c.ConnectionWindow, c.StreamWindow, MaxWindow)
	check(c.MaxHeaderBytes >= 4096, "max_header_bytes: %d, want at least 4096", c.MaxHeaderBytes)
	return errors.Join(errs...)
}

// mostConnections is how many connections to one endpoint there may be for calls that would wait otherwise.
func (c *Config) mostConnections() int {
	if c.WhenFull == WhenFullGrow {
		return growFactor * c.MaxConnections
	}
	return c.MaxConnections
}
