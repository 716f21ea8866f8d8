package reflection

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// CacheConfig bounds a Cache and paces its questions. A zero value means the default.
type CacheConfig struct {
	MaxKeys     int // keys; the least recently used one is dropped for a new one; default 1024
	MaxServices int // services of one key, in the same way; default 128

	FetchTimeout time.Duration // of one fetch; default 10s

	// MissInterval is how long a missing method or service is taken for missing: the service is not asked for again in
	// that time, counted from the last answer about it. Default 10s.
	MissInterval time.Duration

	// After a fetch that failed otherwise, its service is not asked for again for MinBackoff, twice as long after each
	// further failure in a row, up to MaxBackoff. Each of these times is shortened at random, by up to a third.
	// Defaults 1s and 30s.
	MinBackoff, MaxBackoff time.Duration
}

// Every fetch of a key that brings nothing for its service takes one of missBurst tokens, of which one comes back each
// missEvery. Without a token, services that are not held are not asked for. So a client that makes up names of
// services does not reach the endpoint with each of them.
const (
	missBurst = 16
	missEvery = time.Second
)

// maxServiceName bounds the names that a cache keeps, which clients choose.
const maxServiceName = 1024

func (cfg CacheConfig) withDefaults() CacheConfig {
	if cfg.MaxKeys == 0 {
		cfg.MaxKeys = 1024
	}
	if cfg.MaxServices == 0 {
		cfg.MaxServices = 128
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&cfg.FetchTimeout, 10 * time.Second}, {&cfg.MissInterval, 10 * time.Second},
		{&cfg.MinBackoff, time.Second}, {&cfg.MaxBackoff, 30 * time.Second},
	} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	return cfg
}

// Validate reports everything that is wrong with cfg.
func (cfg CacheConfig) Validate() error {
	var errs []error
	if cfg.MaxKeys < 0 {
		errs = append(errs, fmt.Errorf("max_keys: %d, want 0 or more", cfg.MaxKeys))
	}
	if cfg.MaxServices < 0 {
		errs = append(errs, fmt.Errorf("max_services: %d, want 0 or more", cfg.MaxServices))
	}
	for _, d := range []struct {
		key string
		v   time.Duration
	}{
		{"fetch_timeout", cfg.FetchTimeout}, {"miss_interval", cfg.MissInterval},
		{"min_backoff", cfg.MinBackoff}, {"max_backoff", cfg.MaxBackoff},
	} {
		if d.v < 0 {
			errs = append(errs, fmt.Errorf("%s: %v, want 0s or more", d.key, d.v))
		}
	}
	if c := cfg.withDefaults(); len(errs) == 0 && c.MinBackoff > c.MaxBackoff {
		errs = append(errs, fmt.Errorf("min_backoff: %v, want at most max_backoff, %v", c.MinBackoff, c.MaxBackoff))
	}
	return errors.Join(errs...)
}

var (
	// ErrClosed is what a Cache returns after Close.
	ErrClosed = errors.New("reflection: the cache is closed")

	// ErrBusy says that too many fetches of the key brought nothing lately, so that the service was not asked for. A
	// caller may try again in a second.
	ErrBusy = errors.New("too many questions without an answer lately")
)

// Cache keeps what was made of endpoints' answers: a T for each key, such as a route's revision and a backend, and
// service. Methods may be called from several goroutines. A T is shared by them: it must not change.
type Cache[T any] struct {
	cfg CacheConfig

	ctx    context.Context // of all fetches; ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // the fetches' goroutines

	mu     sync.Mutex // guards the following, and what keys holds
	closed bool
	clock  uint64 // grows with each use of a key or service
	keys   map[string]*key[T]
}

// NewCache returns an empty Cache. cfg must be valid. Close ends it.
func NewCache[T any](cfg CacheConfig) *Cache[T] {
	c := &Cache[T]{cfg: cfg.withDefaults(), keys: map[string]*key[T]{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Get returns the value for key and the service of method, a path such as /pkg.Service/Method, once has says that the
// method is in it. It returns at once if the value is held; otherwise it calls fetch and waits until that has returned
// or ctx ends.
//
// One fetch at a time runs for a key, on a goroutine and with a context of the cache's own: it goes on when its
// callers have left, up to FetchTimeout, and its result is kept. Callers that come in the meantime wait for it; if it
// is for another service, one of them is the next. fetch should ask for the service of method alone.
//
// A value that is held stays until there are too many. If it lacks the method, the service is fetched
// again, unless the last fetch is less than MissInterval ago: then the error is ErrMissing. If that fetch fails, the
// methods of the value that is held can still be had. A fetch that fails with ErrMissing is taken to say that there is
// no such service. Other failures are returned to everybody who asks for the service in the next MinBackoff to
// MaxBackoff.
//
// has is called without locks, with a value that fetch returned; it should be quick, since a call that finds its value
// calls it too. An error wraps what fetch returned, or is ErrMissing, ErrBusy, ErrClosed or the end of ctx, wrapped. A
// fetch that ran into FetchTimeout usually returns context.DeadlineExceeded: only ctx tells whether that is the
// caller's own deadline.
func (c *Cache[T]) Get(
	ctx context.Context, key, method string, fetch func(context.Context) (T, error), has func(v T, method string) bool,
) (T, error) {
	var zero T
	service := serviceOf(method)
	if len(service) > maxServiceName {
		return zero, fmt.Errorf("reflection: method %s: a service of %d bytes, want at most %d: %w",
			shortened(method), len(service), maxServiceName, ErrMissing)
	}
	for {
		held := c.lookup(key, service)
		if held != nil && held.known && has(held.value, method) {
			return held.value, nil
		}
		f, err := c.join(key, service, held, fetch)
		if err != nil {
			return zero, fmt.Errorf("reflection: method %s: %w", shortened(method), err)
		}
		if f == nil { // another answer has come since
			continue
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return zero, fmt.Errorf("reflection: method %s: %w", shortened(method), context.Cause(ctx))
		}
		switch {
		case f.service != service:
		case f.err != nil:
			return zero, fmt.Errorf("reflection: method %s: %w", shortened(method), f.err)
		case !has(f.value, method):
			return zero, fmt.Errorf("reflection: method %s: %w", shortened(method), ErrMissing)
		default:
			return f.value, nil
		}
	}
}

// Close cancels the fetches that run and waits for them. Those who wait in Get hear of it. It may be called more than
// once.
func (c *Cache[T]) Close() {
	c.mu.Lock()
	c.closed = true
	clear(c.keys)
	c.mu.Unlock()
	c.cancel()
	c.wg.Wait()
}

// serviceOf returns the service of a path such as /pkg.Service/Method, or all of it if it is none.
func serviceOf(method string) string {
	s := strings.TrimPrefix(method, "/")
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		return s[:i]
	}
	return s
}
