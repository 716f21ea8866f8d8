package reflection

import (
	"math/rand/v2"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// key is the cached state of one key. It is guarded by the cache's mu.
type key[T any] struct {
	used     uint64 // Cache.clock at the last use
	services map[string]*service[T]
	flight   *flight[T]    // the fetch that runs; nil if none does
	misses   *rate.Limiter // tokens for fetches that bring no value; see missBurst
}

// service is the cached state of one service of a key.
type service[T any] struct {
	used    uint64 // Cache.clock at the last use
	outcome *outcome[T]
}

// outcome is the result of the fetches of a service so far. It is immutable: the next fetch makes a new one.
type outcome[T any] struct {
	value T
	known bool // value is set, by the last fetch or an earlier one

	err      error     // of the last fetch
	failures int       // consecutive fetches that failed with an error other than ErrMissing
	askAt    time.Time // when the service may be fetched again
}

// lookup returns the outcome for a service of a key, or nil if there is none. It counts as a use of both.
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

// keyLocked returns the state of a key, which it makes if there is none.
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

// dropKeyLocked drops the least recently used key. A search through all keys is cheap compared with the fetch for the new key.
func (c *Cache[T]) dropKeyLocked() {
	var oldest string
	var victim *key[T]
	for name, k := range c.keys {
		if victim == nil || k.used < victim.used {
			oldest, victim = name, k
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

// put sets the outcome for a service. If the service is new and the key has maxServices already, it drops another one first.
func (k *key[T]) put(svc string, o *outcome[T], now uint64, maxServices int) {
	s := k.services[svc]
	if s == nil {
		if len(k.services) >= maxServices {
			k.dropService()
		}
		s = &service[T]{used: now}
		k.services[strings.Clone(svc)] = s // svc is a part of a longer string, which would stay in memory
	}
	s.outcome = o
}

// dropService drops the least recently used service without a value or, if all have one, the least recently used service.
func (k *key[T]) dropService() {
	var oldest string
	var victim *service[T]
	for name, s := range k.services {
		if victim == nil || victim.outcome.known && !s.outcome.known ||
			victim.outcome.known == s.outcome.known && s.used < victim.used {
			oldest, victim = name, s
		}
	}
	delete(k.services, oldest)
}

// backoff returns how long a service is not fetched again after that many consecutive failures.
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
