package balance

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Host is one endpoint as balancers see it: what is under way there and how fast it answers. Members of several Pickers
// may share one, and should, so that each sees the load that the others bring. It is safe for concurrent use.
type Host struct {
	// Owner is for whoever made the host, to find what else he knows of it. It is set, if at all, before the host is used.
	Owner any

	address string
	now     func() time.Duration // since a moment that all hosts share; may be called at any time
	active  atomic.Int64

	// The estimate of the latency. Pickers read it without mu, the two words apart: one that sees only half of a change
	// misjudges the host for one call.
	decay atomic.Int64  // nanoseconds; 0 until a PeakEWMA picker has the host
	mu    sync.Mutex    // held to change peak and stamp
	peak  atomic.Uint64 // bits of a float64: nanoseconds, as of stamp; 0 before the first answer
	stamp atomic.Int64  // now() of the last answer, nanoseconds
}

// epoch is where the hosts' time begins. It never changes.
var epoch = time.Now()

func sinceEpoch() time.Duration { return time.Since(epoch) }

// NewHost returns a host with nothing under way. The address is what Address returns, and its place in ConsistentHash.
func NewHost(address string) *Host { return newHost(address, sinceEpoch) }

func newHost(address string, now func() time.Duration) *Host {
	return &Host{address: address, now: now}
}

// Address returns what NewHost was given.
func (h *Host) Address() string { return h.address }

// Begin notes that a call goes to the host. Each Begin has one End.
func (h *Host) Begin() { h.active.Add(1) }

// End notes that a call that Begin has noted is over, however it went.
func (h *Host) End() { h.active.Add(-1) }

// Active returns how many calls are under way.
func (h *Host) Active() int { return int(h.active.Load()) }

// Answered notes that the first of an answer came so long after the call went to the host. A call that was given up
// before should be noted too, with the time that it waited: a host that says nothing would look fast again otherwise.
// Only PeakEWMA uses this; it costs next to nothing for a host that no such Picker has.
//
// The estimate follows a longer latency at once and a shorter one slowly: after a time of Decay without a longer one,
// 1/e of the difference is left. If several Decays are in use for one host, that of the newest Picker counts.
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

// latency returns the estimate in nanoseconds as of the time stamp, 0 if there is none yet.
func (h *Host) latency() (peak float64, stamp int64) {
	return math.Float64frombits(h.peak.Load()), h.stamp.Load()
}
