package reflection

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// CacheConfig bounds a Cache and the rate of its fetches. A zero field means the default.
type CacheConfig struct {
	MaxKeys     int // the least recently used key is dropped for a new one; default 1024
	MaxServices int // services of one key; one of them is dropped for a new one; default 128

	FetchTimeout time.Duration // of one fetch; default 10s

	// MissInterval is how long a service or a method that a fetch did not bring is taken for missing: the service is not
	// fetched again in that time. Default 10s.
	MissInterval time.Duration

	// After a fetch that failed with an error other than ErrMissing, the service is not fetched again for MinBackoff, for
	// twice as long after each further consecutive failure, up to MaxBackoff. Each of these times is shortened at random
	// by up to a third. Defaults 1s and 30s.
	MinBackoff, MaxBackoff time.Duration
}

// A fetch that brings no value takes one of a key's missBurst tokens, and one token comes back every missEvery. While the
// key has no token, services without a value are not fetched. So a client that makes up names of services does not cause a
// request to the endpoint for each name.
const (
	missBurst = 16
	missEvery = time.Second
)

// maxServiceName bounds the names of services in bytes, because clients choose them and the cache keeps them.
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
	// ErrClosed is the error of Get after Close.
	ErrClosed = errors.New("reflection: the cache is closed")

	// ErrBusy says that the service was not fetched, because too many fetches of the key have brought no value lately. The
	// caller may try again after a second.
	ErrBusy = errors.New("too many questions without an answer lately")
)

// Cache keeps what callers made of endpoints' answers: a T, which must be immutable, for each key and service. A key may be
// a revision of a route and a backend, for example. A Cache is safe for concurrent use.
type Cache[T any] struct {
	cfg CacheConfig

	ctx    context.Context // of all fetches; ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // the fetches' goroutines

	mu     sync.Mutex // guards the fields below, and the keys with what they hold
	closed bool
	clock  uint64 // counts the uses of keys and services, to order them
	keys   map[string]*key[T]
}

// NewCache returns an empty Cache, which the caller closes. cfg must be valid.
func NewCache[T any](cfg CacheConfig) *Cache[T] {
	c := &Cache[T]{cfg: cfg.withDefaults(), keys: map[string]*key[T]{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Get returns the value for a key and the service of method, a path such as /pkg.Service/Method, for which has reports that
// it has the method. If such a value is cached, Get returns at once; otherwise it fetches the service, and blocks until the
// fetch has ended or ctx ends.
//
// For each key one fetch runs at a time, in a goroutine and with a context of the cache: it goes on when its callers have
// left, up to FetchTimeout, and its result is cached. Callers that come meanwhile wait for it; if it is for another service,
// one of them starts the next fetch afterwards. fetch should ask for the service of method only.
//
// A cached value stays until it is dropped for another one. If it does not have the method, the service is fetched again,
// unless the last fetch was less than MissInterval ago: then the error is ErrMissing. If the new fetch fails, the cached
// value stays. A fetch that fails with ErrMissing says that the service does not exist. After another failure, Get returns
// the same error for the service until the backoff has passed.
//
// has is called without a lock, with a value that fetch returned. It should be fast, because every Get calls it. The error
// of Get wraps that of fetch, ErrMissing, ErrBusy, ErrClosed or the cause of the end of ctx. A fetch that exceeded
// FetchTimeout usually returns context.DeadlineExceeded: callers must ask ctx whether it was their own deadline.
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
		if f == nil { // there is another outcome since lookup
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

// Close cancels the fetches that run and waits for them to return. Callers that wait in Get get ErrClosed. It may be called
// more than once.
func (c *Cache[T]) Close() {
	c.mu.Lock()
	c.closed = true
	clear(c.keys)
	c.mu.Unlock()
	c.cancel()
	c.wg.Wait()
}

// serviceOf returns the service of a path such as /pkg.Service/Method, or all of a path that has no second slash.
func serviceOf(method string) string {
	s := strings.TrimPrefix(method, "/")
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		return s[:i]
	}
	return s
}
