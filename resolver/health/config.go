package health

import (
	"cmp"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Type is a way to check an endpoint.
type Type string

// The types.
const (
	TypeGRPC Type = "grpc" // Check of grpc.health.v1, without TLS; only SERVING is good
	TypeTCP  Type = "tcp"  // a connection, which is closed at once
)

// Config says how an endpoint is checked. The zero value of a field means its default. Configs can be compared with ==.
type Config struct {
	Type      Type          `yaml:"type"`                // no default
	Service   string        `yaml:"service,omitempty"`   // of the request of TypeGRPC; empty means the server as a whole
	Authority string        `yaml:"authority,omitempty"` // :authority of TypeGRPC; empty means the address, or localhost for unix:/path
	Interval  time.Duration `yaml:"interval,omitempty"`  // at most, from one check to the next; default 5s, at least 100ms
	Timeout   time.Duration `yaml:"timeout,omitempty"`   // of one check; default 1s, or Interval if that is less; at most Interval
	Rise      int           `yaml:"rise,omitempty"`      // good checks in a row that bring an endpoint in; default 2
	Fall      int           `yaml:"fall,omitempty"`      // failed checks in a row that take it out; default 3
}

// Defaults.
const (
	DefaultInterval = 5 * time.Second
	DefaultTimeout  = time.Second
	DefaultRise     = 2
	DefaultFall     = 3
)

// Bounds.
const (
	minInterval  = 100 * time.Millisecond
	maxInterval  = time.Hour
	minTimeout   = time.Millisecond
	maxInARow    = 1000
	maxService   = 256 // bytes
	maxAuthority = 255 // bytes
)

func (c Config) withDefaults() Config {
	c.Interval = cmp.Or(c.Interval, DefaultInterval)
	c.Timeout = cmp.Or(c.Timeout, min(DefaultTimeout, c.Interval))
	c.Rise = cmp.Or(c.Rise, DefaultRise)
	c.Fall = cmp.Or(c.Fall, DefaultFall)
	if c.Type == TypeTCP {
		c.Service, c.Authority = "", "" // so that Configs that mean the same are equal
	}
	return c
}

// Validate reports every field that is out of bounds, by its name in a document.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Type == TypeGRPC || c.Type == TypeTCP, "type: %q, want %s or %s", c.Type, TypeGRPC, TypeTCP)
	check(c.Service == "" || c.Type != TypeTCP, "service: %q, want it with type %s only", c.Service, TypeGRPC)
	check(len(c.Service) <= maxService && utf8.ValidString(c.Service), "service: %q, want UTF-8 of at most %d bytes", c.Service, maxService)
	check(c.Authority == "" || c.Type != TypeTCP, "authority: %q, want it with type %s only", c.Authority, TypeGRPC)
	check(ValidAuthority(c.Authority), "authority: %q, want a host or host:port without spaces", c.Authority)
	c = c.withDefaults()
	check(c.Interval >= minInterval && c.Interval <= maxInterval, "interval: %s, want %s to %s", c.Interval, minInterval, maxInterval)
	check(c.Timeout >= minTimeout && c.Timeout <= c.Interval, "timeout: %s, want %s to interval (%s)", c.Timeout, minTimeout, c.Interval)
	check(c.Rise >= 1 && c.Rise <= maxInARow, "rise: %d, want 1 to %d", c.Rise, maxInARow)
	check(c.Fall >= 1 && c.Fall <= maxInARow, "fall: %d, want 1 to %d", c.Fall, maxInARow)
	return errors.Join(errs...)
}

// ValidAuthority reports whether s can be sent as :authority, RFC 9113 §8.3.1, or is empty.
func ValidAuthority(s string) bool {
	if len(s) > maxAuthority {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '/' || c == '@' {
			return false
		}
	}
	return true
}
