package load

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/framegate/framegate/resolver/plain"
)

// Mode is the kind of call that the load is made of.
type Mode string

// The modes, each a method of echo.Echo.
const (
	Unary  Mode = "unary"  // Say
	Client Mode = "client" // Collect: Config.Messages requests, one reply
	Server Mode = "server" // Stream: one request, Config.Messages replies
	Bidi   Mode = "bidi"   // Chat: a long-lived stream per worker, one message in flight on it
)

// Bounds of Config, always enforced by Validate.
const (
	MaxDuration      = 10 * time.Minute
	MaxWarmup        = time.Minute
	MaxConnections   = 1024
	MaxConcurrency   = 65536
	MaxSizeBytes     = 64 << 20
	MaxInFlightBytes = 4 << 30 // Concurrency × SizeBytes: what the load itself keeps in memory, about
	MaxMessages      = 1_000_000
	MaxRatePerSecond = 1_000_000
)

// Config says what load to make. Start from Defaults: the zero value is not valid.
type Config struct {
	Target   string // host:port
	Baseline string // host:port that gets the same load for comparison; "" = none

	Mode     Mode
	Duration time.Duration // measured time per side
	Warmup   time.Duration // before a side's first window; not counted. 0 = none

	Connections   int // HTTP/2 connections per side, each a Kitex client of its own; at most Concurrency
	Concurrency   int // calls (bidi: streams) in flight per side, spread over the connections
	SizeBytes     int // payload of each message
	Messages      int // per call in the client and server modes; the others ignore it
	RatePerSecond int // calls per second over all workers, begun on schedule whatever the answers do; 0 = as fast as they return
}

// Defaults is a short, moderate load of small unary calls; it still needs a Target.
func Defaults() Config {
	return Config{
		Mode: Unary, Duration: 10 * time.Second, Warmup: 500 * time.Millisecond,
		Connections: 4, Concurrency: 64, SizeBytes: 128, Messages: 100,
	}
}

// Problem is one wrong value in a Config. Key is the name of the field's command-line flag, without dashes.
type Problem struct{ Key, Value, Want string }

// ConfigError holds all the problems of a Config.
type ConfigError struct{ Problems []Problem }

// Error is one line: "size: -1, want 0 to 67108864; rate: ...".
func (e *ConfigError) Error() string { return e.join("") }

// Flags is Error with every key written as a command-line flag.
func (e *ConfigError) Flags() string { return e.join("--") }

func (e *ConfigError) join(prefix string) string {
	parts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		parts[i] = fmt.Sprintf("%s%s: %s, want %s", prefix, p.Key, p.Value, p.Want)
	}
	return strings.Join(parts, "; ")
}

// Validate returns nil or a *ConfigError with every problem of c.
func (c Config) Validate() error {
	var ps []Problem
	add := func(key, value, want string) { ps = append(ps, Problem{key, value, want}) }
	between := func(key string, v, low, high int) {
		if v < low || v > high {
			add(key, strconv.Itoa(v), fmt.Sprintf("%d to %d", low, high))
		}
	}

	if !isHostPort(c.Target) {
		add("target", strconv.Quote(plain.URL(c.Target)), "host:port")
	}
	if c.Baseline != "" && !isHostPort(c.Baseline) {
		add("baseline", strconv.Quote(plain.URL(c.Baseline)), "host:port")
	}
	switch c.Mode {
	case Unary, Client, Server, Bidi:
	default:
		add("mode", strconv.Quote(string(c.Mode)), "unary, client, server or bidi")
	}
	if c.Duration <= 0 || c.Duration > MaxDuration {
		add("duration", c.Duration.String(), "more than 0 and at most "+MaxDuration.String())
	}
	if c.Warmup < 0 || c.Warmup > MaxWarmup {
		add("warmup", c.Warmup.String(), "0s to "+MaxWarmup.String())
	}
	between("connections", c.Connections, 1, MaxConnections)
	between("concurrency", c.Concurrency, 1, MaxConcurrency)
	between("size", c.SizeBytes, 0, MaxSizeBytes)
	between("messages", c.Messages, 1, MaxMessages)
	between("rate", c.RatePerSecond, 0, MaxRatePerSecond)
	if len(ps) == 0 && c.Connections > c.Concurrency {
		add("connections", strconv.Itoa(c.Connections), fmt.Sprintf("at most the concurrency, %d", c.Concurrency))
	}
	if len(ps) == 0 && int64(c.Concurrency)*int64(c.SizeBytes) > MaxInFlightBytes {
		add("size", fmt.Sprintf("%d with concurrency %d", c.SizeBytes, c.Concurrency),
			fmt.Sprintf("at most %d bytes in flight", int64(MaxInFlightBytes)))
	}
	if len(ps) > 0 {
		return &ConfigError{ps}
	}
	return nil
}

func isHostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}
