package pool

import (
	"errors"
	"fmt"
	"time"

	"github.com/framegate/framegate/pool/h2conn"
)

// Config says how connections to endpoints are made and kept. The zero value of a field means its default, except
// where "0" is given a meaning.
type Config struct {
	Connections          int           // at most, to one endpoint; default 8, at most 1024
	StreamsPerConnection int           // a further connection is made when all have so many streams; default 256
	ConnectTimeout       time.Duration // of dialling, until the peer's SETTINGS, and of waiting for a stream slot; default 5s
	IdleTimeout          time.Duration // a connection without streams is closed after it; default 5m, negative means never
	Keepalive            h2conn.Keepalive
	StreamWindow         uint32 // bytes that an endpoint may send on one stream before we read them; default 256 KiB
	ConnectionWindow     uint32 // the same on one connection; default 1 MiB
	MaxHeaderBytes       uint32 // of the headers of one answer; default 64 KiB
}

// Defaults.
const (
	DefaultConnections          = 8
	DefaultStreamsPerConnection = 256
	DefaultConnectTimeout       = 5 * time.Second
	DefaultIdleTimeout          = 5 * time.Minute
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

const maxConnections = 1024

func (c Config) withDefaults() Config {
	setDefault(&c.Connections, DefaultConnections)
	setDefault(&c.StreamsPerConnection, DefaultStreamsPerConnection)
	setDefault(&c.ConnectTimeout, DefaultConnectTimeout)
	setDefault(&c.IdleTimeout, DefaultIdleTimeout)
	setDefault(&c.Keepalive.Timeout, DefaultKeepaliveTimeout)
	setDefault(&c.StreamWindow, DefaultStreamWindow)
	setDefault(&c.ConnectionWindow, DefaultConnectionWindow)
	setDefault(&c.MaxHeaderBytes, DefaultMaxHeaderBytes)
	return c
}

func setDefault[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
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
	check(c.Connections >= 1 && c.Connections <= maxConnections, "connections: %d, want 1 to %d", c.Connections, maxConnections)
	check(c.StreamsPerConnection >= 1, "streams_per_connection: %d, want 1 or more", c.StreamsPerConnection)
	check(c.ConnectTimeout > 0, "connect_timeout: %s, want more than 0s", c.ConnectTimeout)
	check(c.Keepalive.Time == 0 || c.Keepalive.Time >= time.Second, "keepalive.time: %s, want 0s (never) or at least 1s", c.Keepalive.Time)
	check(c.Keepalive.Timeout >= time.Second, "keepalive.timeout: %s, want at least 1s", c.Keepalive.Timeout)
	check(c.StreamWindow >= MinWindow && c.StreamWindow <= MaxWindow, "stream_window: %d, want %d to %d", c.StreamWindow, MinWindow, MaxWindow)
	check(c.ConnectionWindow >= c.StreamWindow && c.ConnectionWindow <= MaxWindow, "connection_window: %d, want stream_window (%d) to %d", c.ConnectionWindow, c.StreamWindow, MaxWindow)
	check(c.MaxHeaderBytes >= 4096, "max_header_bytes: %d, want at least 4096", c.MaxHeaderBytes)
	return errors.Join(errs...)
}
