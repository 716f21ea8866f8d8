package eject

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// Off is the value of ConsecutiveFailures with which endpoints are not ejected for consecutive failures.
const Off = -1

// Config says when an endpoint is ejected, and for how long. The zero value of a field means its default. Configs can be
// compared with ==.
type Config struct {
	ConsecutiveFailures int           `yaml:"consecutive_failures,omitempty"` // in a row that eject an endpoint, or Off; default 5
	FailurePercent      int           `yaml:"failure_percent,omitempty"`      // of the calls in Window: failures from which an endpoint is ejected; default 0, which is off
	MinCalls            int           `yaml:"min_calls,omitempty"`            // calls in Window from which FailurePercent counts; default 20
	Window              time.Duration `yaml:"window,omitempty"`               // default 10s

	// An endpoint is ejected for BaseTime the first time, twice that the second time and so on, at most for MaxTime. For each
	// BaseTime that it has been back since, one time is forgiven.
	BaseTime time.Duration `yaml:"base_time,omitempty"` // default 10s
	MaxTime  time.Duration `yaml:"max_time,omitempty"`  // default 5m, or BaseTime if that is more

	// MaxPercent bounds how many of the backend's endpoints are ejected at once: that share of them, rounded down, but always
	// one of two or more; default 50.
	MaxPercent int `yaml:"max_percent,omitempty"`
}

// Defaults.
const (
	DefaultConsecutiveFailures = 5
	DefaultMinCalls            = 20
	DefaultWindow              = 10 * time.Second
	DefaultBaseTime            = 10 * time.Second
	DefaultMaxTime             = 5 * time.Minute
	DefaultMaxPercent          = 50
)

// Bounds.
const (
	maxFailures = 1_000_000
	maxMinCalls = 1_000_000
	minWindow   = time.Second
	maxWindow   = 10 * time.Minute
	minBaseTime = 10 * time.Millisecond
	maxMaxTime  = 24 * time.Hour
)

func (c Config) withDefaults() Config {
	c.ConsecutiveFailures = cmp.Or(c.ConsecutiveFailures, DefaultConsecutiveFailures)
	c.MinCalls = cmp.Or(c.MinCalls, DefaultMinCalls)
	c.Window = cmp.Or(c.Window, DefaultWindow)
	c.BaseTime = cmp.Or(c.BaseTime, DefaultBaseTime)
	c.MaxTime = cmp.Or(c.MaxTime, max(DefaultMaxTime, c.BaseTime))
	c.MaxPercent = cmp.Or(c.MaxPercent, DefaultMaxPercent)
	return c
}

// Validate reports every field that is out of bounds, by its name in a document.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.ConsecutiveFailures == Off || c.ConsecutiveFailures >= 1 && c.ConsecutiveFailures <= maxFailures,
		"consecutive_failures: %d, want 1 to %d, or %d (off)", c.ConsecutiveFailures, maxFailures, Off)
	check(c.FailurePercent >= 0 && c.FailurePercent <= 100, "failure_percent: %d, want 0 (off) to 100", c.FailurePercent)
	check(c.MinCalls >= 1 && c.MinCalls <= maxMinCalls, "min_calls: %d, want 1 to %d", c.MinCalls, maxMinCalls)
	check(c.Window >= minWindow && c.Window <= maxWindow, "window: %s, want %s to %s", c.Window, minWindow, maxWindow)
	check(c.BaseTime >= minBaseTime && c.BaseTime <= maxMaxTime, "base_time: %s, want %s to %s", c.BaseTime, minBaseTime, maxMaxTime)
	check(c.MaxTime >= c.BaseTime && c.MaxTime <= maxMaxTime, "max_time: %s, want base_time (%s) to %s", c.MaxTime, c.BaseTime, maxMaxTime)
	check(c.MaxPercent >= 1 && c.MaxPercent <= 100, "max_percent: %d, want 1 to 100", c.MaxPercent)
	return errors.Join(errs...)
}

// mayEject returns how many of n endpoints may be ejected at once.
func (c Config) mayEject(n int) int {
	limit := n * c.MaxPercent / 100
	if limit == 0 && n >= 2 {
		return 1
	}
	return limit
}

// times returns how many ejections of an endpoint still count, of before that counted when it came back. back is how long
// ago that was.
func (c Config) times(before int, back time.Duration) int {
	return max(0, before-int(back/c.BaseTime))
}

// ejection returns for how long an endpoint is ejected of which so many ejections count from before.
func (c Config) ejection(before int) time.Duration {
	if before >= int(c.MaxTime/c.BaseTime) {
		return c.MaxTime
	}
	return min(c.BaseTime*time.Duration(before+1), c.MaxTime)
}
