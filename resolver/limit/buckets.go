package limit

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// How many keys Buckets tells apart, unless it is told otherwise, and at most: 64 MiB or so.
const (
	DefaultKeys = 10_000
	MaxKeys     = 1_000_000
)

// Buckets has a bucket for each key, such as the value of a header or a peer's IP address, and allows the calls of each
// at one Rate. Keys come from peers, so its memory is bounded, whatever is invented:
//
//   - It keeps no key, only a hash of it under a secret seed. Nobody can choose two keys that share a bucket.
//   - It has at most so many buckets as it was made for. A bucket that is full says nothing about its key that a new one
//     would not say. When it has been full for keepFull, it may be dropped for a newcomer.
//   - While none may be dropped, newcomers share one. A flood of keys gives nobody a fresh bucket, takes none from who
//     uses his, and all keys together get at most (buckets + 1) × Rate.
type Buckets struct {
	pace     pace
	start    time.Time
	seed     maphash.Seed
	maxKeys  int64
	overflow *Bucket
	shards   []shard      // a power of two
	keys     atomic.Int64 // of all shards
}

// minShardKeys is the least number of keys for which a further shard pays: so many are spread about evenly.
const (
	minShardKeys = 64
	maxShards    = 32
)

// shard has the buckets of some of the keys. Shards let calls on several cores go on side by side.
type shard struct {
	mu    sync.Mutex       // guards all of it
	index map[uint64]int32 // of a key's bucket in list, by its hash
	list  []keyed
	hand  int // the next of list that a newcomer looks at

	_ [64]byte // the next shard is on another cache line
}

// keyed is the bucket of one key.
type keyed struct {
	hash uint64
	full int64 // as in Bucket
}

// NewBuckets returns Buckets that tell up to maxKeys keys apart; 0 or less means DefaultKeys, and more than MaxKeys
// means MaxKeys. What is out of r's bounds is brought to the nearest bound; see Rate.Validate.
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

// Allow takes a token from the key's bucket. If there is none, ok is false, and retryAfter is how long it takes until
// there is one. It keeps nothing of key.
func (b *Buckets) Allow(key string) (ok bool, retryAfter time.Duration) {
	hash := maphash.String(b.seed, key)
	s := &b.shards[hash&uint64(len(b.shards)-1)]
	now := int64(time.Since(b.start))
	s.mu.Lock()
	i, known := s.index[hash]
	if !known {
		if i, known = b.newcomerLocked(s, hash, now); !known {
			s.mu.Unlock()
			return b.overflow.Allow()
		}
	}
	k := &s.list[i]
	k.full, retryAfter = b.pace.take(k.full, now)
	s.mu.Unlock()
	return retryAfter == 0, retryAfter
}

// Len returns how many keys have a bucket of their own now.
func (b *Buckets) Len() int { return int(b.keys.Load()) }

const (
	newcomerLooks = 8 // buckets that one newcomer looks at: a bound on what a call with a new key costs

	// keepFull is how long a full bucket is kept for its key. Who calls once a second or so keeps his bucket, whatever
	// the others invent.
	keepFull = time.Second
)

// newcomerLocked makes a full bucket for the key of hash and returns its index, or false when it finds none to drop for
// it. The hand goes round the list as a clock's does, so that the next newcomer looks at others.
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

// takeSlot counts one more bucket, if there may be one.
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
