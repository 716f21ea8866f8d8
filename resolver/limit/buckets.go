package limit

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// The number of keys for which NewBuckets makes room.
const (
	DefaultKeys = 10_000
	MaxKeys     = 1_000_000 // takes about 64 MiB
)

// Buckets has a bucket for each key, such as the value of a header or a peer's IP address, and allows the calls of each key
// at one Rate. Keys come from peers, so memory is bounded however many keys a peer invents:
//
//   - Buckets keeps no key, only a hash of it with a secret seed, so that nobody can choose two keys that share a bucket.
//   - The number of buckets is bounded. A full bucket is worth no more than a new one, so a bucket that has been full for
//     keepFull may be dropped to make room for a new key.
//   - While no bucket may be dropped, new keys share one bucket. So a flood of new keys gets no fresh buckets and takes none
//     from keys in use, and all keys together get at most (buckets + 1) × Rate.
type Buckets struct {
	pace     pace
	start    time.Time
	seed     maphash.Seed
	maxKeys  int64
	overflow *Bucket
	shards   []shard      // their number is a power of two
	keys     atomic.Int64 // the number of buckets in all shards
}

const (
	minShardKeys = 64 // fewer keys are not spread evenly enough over shards
	maxShards    = 32
)

// shard has the buckets of some of the keys. With several shards, calls on several cores seldom wait for one lock.
type shard struct {
	mu    sync.Mutex       // guards all of it
	index map[uint64]int32 // by the hash of a key: the index of its bucket in list
	list  []keyed
	hand  int // the index in list at which the next newcomer begins to look

	_ [64]byte // so that the next shard is on another cache line
}

// keyed is the bucket of one key.
type keyed struct {
	hash uint64
	full int64 // as in Bucket
}

// NewBuckets returns Buckets for up to maxKeys keys at a time; 0 or less means DefaultKeys, and more than MaxKeys means
// MaxKeys. Values of r that are out of bounds are replaced by the nearest bound; see Rate.Validate.
func NewBuckets(r Rate, maxKeys int) *Buckets {
	if maxKeys <= 0 {
		maxKeys = DefaultKeys
	}
	maxKeys = min(maxKeys, MaxKeys)
	shards := 1
	for shards < maxShards && maxKeys/(2*shards) >= minShardKeys {
		shards *= 2
	}
	b := &Buckets{
		pace: r.pace(), start: time.Now(), seed: maphash.MakeSeed(),
		maxKeys: int64(maxKeys), overflow: NewBucket(r), shards: make([]shard, shards),
	}
	for i := range b.shards {
		b.shards[i].index = map[uint64]int32{}
	}
	return b
}

// Allow takes a token from the key's bucket at a time, which is about now. If there is none, ok is false, and retryAfter is how long it
// takes until there is one. It keeps nothing of key.
func (b *Buckets) Allow(key string, now time.Time) (ok bool, retryAfter time.Duration) {
	hash := maphash.String(b.seed, key)
	s := &b.shards[hash&uint64(len(b.shards)-1)]
	at := max(int64(now.Sub(b.start)), 0)
	s.mu.Lock()
	i, known := s.index[hash]
	if !known {
		if i, known = b.newcomerLocked(s, hash, at); !known {
			s.mu.Unlock()
			return b.overflow.Allow(now)
		}
	}
	k := &s.list[i]
	k.full, retryAfter = b.pace.take(k.full, at)
	s.mu.Unlock()
	return retryAfter == 0, retryAfter
}

// Len returns how many keys have a bucket of their own now.
func (b *Buckets) Len() int { return int(b.keys.Load()) }

const (
	newcomerLooks = 8 // bounds the buckets that a call with a new key looks at to find one to drop

	// keepFull is how long a full bucket is kept for its key. A peer that calls about once a second keeps its bucket, however
	// many keys others invent.
	keepFull = time.Second
)

// newcomerLocked makes a full bucket for the key with that hash and returns its index, or false if there is no room and it
// finds no bucket to drop. The hand goes round the list as in a clock algorithm, so that the next newcomer looks at others.
func (b *Buckets) newcomerLocked(s *shard, hash uint64, now int64) (int32, bool) {
	if b.takeSlot() {
		i := int32(len(s.list))
		s.list = append(s.list, keyed{hash: hash, full: now})
		s.index[hash] = i
		return i, true
	}
	for range min(newcomerLooks, len(s.list)) {
		i := int32(s.hand)
		s.hand = (s.hand + 1) % len(s.list)
		if k := &s.list[i]; k.full <= now-int64(keepFull) {
			delete(s.index, k.hash)
			*k = keyed{hash: hash, full: now}
			s.index[hash] = i
			return i, true
		}
	}
	return 0, false
}

// takeSlot counts one more bucket and reports true, unless there are maxKeys already.
func (b *Buckets) takeSlot() bool {
	for {
		n := b.keys.Load()
		if n >= b.maxKeys {
			return false
		}
		if b.keys.CompareAndSwap(n, n+1) {
			return true
		}
	}
}
