package reflection

import (
	"math/rand/v2"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// key is what a Cache holds for one key. The cache's mu guards it.
type key[T any] struct {
	used     uint64 // the cache's clock at the last use
	services map[string]*service[T]
	flight   *flight[T]    // the fetch that runs, or nil
	misses   *rate.Limiter // tokens for fetches that bring nothing
}

// service is what a key holds for one service.
type service[T any] struct {
	used    uint64
	outcome *outcome[T]
}

// outcome is what came of the fetches of a service. It does not change: the next fetch brings the next outcome.
type outcome[T any] struct {
	value T
	known bool // value is there, maybe of an earlier fetch

	err      error     // of the last fetch
	failures int       // fetches in a row that failed with something else than ErrMissing
	askAt    time.Time // there is no fetch before
}

// lookup returns the outcome for a service of a key, or nil, and notes the use.
func (c *Cache[T]) lookup(name, svc string) *outcome[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.keys[name]
	if k == nil {
		return nil
	}
	c.clock++
	k.used = c.clock
	s := k.services[svc]
	if s == nil {
		return nil
	}
	s.used = c.clock
	return s.outcome
}

// keyLocked returns what is held for a key, which it makes if need be.
func (c *Cache[T]) keyLocked(name string) *key[T] {
	k := c.keys[name]
	if k == nil {
		if len(c.keys) >= c.cfg.MaxKeys {
			c.dropKeyLocked()
		}
		k = &key[T]{services: map[string]*service[T]{}, misses: rate.NewLimiter(rate.Every(missEvery), missBurst)}
		c.keys[name] = k
	}
	c.clock++
	k.used = c.clock
	return k
}

// dropKeyLocked drops the least recently used key. To look at all of them is cheap beside the fetch that a new one
// brings.
func (c *Cache[T]) dropKeyLocked() {
	var oldest string
	var least *key[T]
	for name, k := range c.keys {
		if least == nil || k.used < least.used {
			oldest, least = name, k
		}
	}
	delete(c.keys, oldest)
}

// outcomeOf returns the outcome for a service, or nil.
func (k *key[T]) outcomeOf(svc string) *outcome[T] {
	if s := k.services[svc]; s != nil {
		return s.outcome
	}
	return nil
}

// put makes o the outcome for a service. With most services held already, the one that goes is the least recently used
// one that has no value, or else the least recently used one.
func (k *key[T]) put(svc string, o *outcome[T], now uint64, most int) {
	s := k.services[svc]
	if s == nil {
		if len(k.services) >= most {
			k.dropService()
		}
		s = &service[T]{used: now}
		k.services[strings.Clone(svc)] = s // svc is a part of a longer string
	}
	s.outcome = o
}

func (k *key[T]) dropService() {
	var oldest string
	var least *service[T]
	for name, s := range k.services {
		if least == nil || least.outcome.known && !s.outcome.known ||
			least.outcome.known == s.outcome.known && s.used < least.used {
			oldest, least = name, s
		}
	}
	delete(k.services, oldest)
}

// backoff returns how long a service is left alone after so many failures in a row.
func (cfg CacheConfig) backoff(failures int) time.Duration {
	d := cfg.MinBackoff
	for range failures - 1 {
		if d >= cfg.MaxBackoff {
			break
		}
		d *= 2
	}
	d = min(d, cfg.MaxBackoff)
	return d - time.Duration(rand.Int64N(int64(d)/3+1))
}
