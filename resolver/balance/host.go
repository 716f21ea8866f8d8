package balance

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Host has the load and the latency of one endpoint. Members of several Pickers may share a Host, and should, so that each
// Picker sees the load that the others bring. It is safe for concurrent use.
type Host struct {
	// Owner is for the maker of the host, to find its own data of the endpoint. It is set, if at all, before the host is used.
	Owner any

	address string
	now     func() time.Duration // since a moment that all hosts share; may be called at any time
	active  atomic.Int64         // calls under way

	// The estimate of the latency. Pickers read peak and stamp without mu, one after the other. A Picker that reads one of
	// them before a change and the other after it misjudges the host for one call.
	decay atomic.Int64  // nanoseconds; 0 until a PeakEWMA picker has the host
	mu    sync.Mutex    // held to change peak and stamp
	peak  atomic.Uint64 // bits of a float64: nanoseconds, as of stamp; 0 before the first answer
	stamp atomic.Int64  // now() of the last answer, nanoseconds
}

// epoch is the zero of the hosts' time. It never changes.
var epoch = time.Now()

func sinceEpoch() time.Duration { return time.Since(epoch) }

// NewHost returns a host without calls under way. The address also decides its place in ConsistentHash.
func NewHost(address string) *Host { return newHost(address, sinceEpoch) }

func newHost(address string, now func() time.Duration) *Host {
	return &Host{address: address, now: now}
}

// Address returns the address that NewHost was given.
func (h *Host) Address() string { return h.address }

// Begin counts a call to the host. Each Begin has one End.
func (h *Host) Begin() { h.active.Add(1) }

// End ends a call that Begin has counted.
func (h *Host) End() { h.active.Add(-1) }

// Active returns how many calls are under way.
func (h *Host) Active() int { return int(h.active.Load()) }

// Answered notes the latency of a call: the time from its start to the beginning of its answer. The caller should also call
// it for a call that it gave up before, with the time that it waited, because a host that never answers would look fast
// otherwise. Only PeakEWMA uses the latency; for a host that no such Picker has, Answered costs next to nothing.
//
// The estimate follows a longer latency at once and a shorter one slowly: after a time of Decay without a longer one, 1/e of
// the difference is left. If Pickers with several Decays have the host, the Decay of the newest one counts.
func (h *Host) Answered(latency time.Duration) {
	decay := h.decay.Load()
	if decay == 0 {
		return
	}
	sample := float64(max(latency, 1))
	h.mu.Lock()
	defer h.mu.Unlock()
	now := int64(h.now())
	peak := math.Float64frombits(h.peak.Load())
	if sample < peak {
		left := math.Exp(-float64(max(now-h.stamp.Load(), 0)) / float64(decay))
		sample += (peak - sample) * left
	}
	h.peak.Store(math.Float64bits(sample))
	h.stamp.Store(now)
}

// latency returns the estimate in nanoseconds, as it was at the time stamp; 0 if there is none yet.
func (h *Host) latency() (peak float64, stamp int64) {
	return math.Float64frombits(h.peak.Load()), h.stamp.Load()
}
