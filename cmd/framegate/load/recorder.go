package load

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// maxRecorders bounds the memory of the histograms (about 200 KB each): above it workers share them.
	maxRecorders = 64

	// Latencies are kept in nanoseconds, to three figures, from 0.1 µs up to more than a call can last.
	minLatency     = 100 * time.Nanosecond
	maxLatency     = 2 * MaxDuration
	latencyFigures = 3
)

// traffic is the payload that a call carried, in bytes.
type traffic struct{ sent, received int64 }

// recorder holds measurements. Each worker has one of its own, unless there are more than maxRecorders workers.
type recorder struct {
	mu        sync.Mutex // guards all below; contended only when workers share
	latencies *hdrhistogram.Histogram
	inWindow  int64 // calls that ended well inside a window, and their traffic
	traffic   traffic
	failed    int64
	errors    map[string]int64 // by code, see codeOf
	firstErr  error
	firstAt   time.Time // when firstErr came
}

func newRecorder() *recorder {
	return &recorder{
		latencies: hdrhistogram.New(int64(minLatency), int64(maxLatency), latencyFigures),
		errors:    make(map[string]int64),
	}
}

// succeed records a call that began (or was due) at begun and ended well at ended.
func (r *recorder) succeed(w window, begun, ended time.Time, t traffic) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.holds(ended) {
		r.inWindow++
		r.traffic.sent += t.sent
		r.traffic.received += t.received
	}
	if w.holds(begun) {
		// Cannot fail: the value is clamped to the histogram's range.
		_ = r.latencies.RecordValue(int64(min(ended.Sub(begun), maxLatency)))
	}
}

// fail records a call that began in w and ended at ended with err.
func (r *recorder) fail(w window, begun, ended time.Time, code string, err error) {
	if !w.holds(begun) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed++
	r.errors[code]++
	if r.firstErr == nil {
		r.firstErr, r.firstAt = err, ended
	}
}

func (r *recorder) counts() (calls, failed int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.latencies.TotalCount(), r.failed
}

// mergeInto adds r to sum, which no other goroutine may be using.
func (r *recorder) mergeInto(sum *recorder) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sum.latencies.Merge(r.latencies)
	sum.inWindow += r.inWindow
	sum.traffic.sent += r.traffic.sent
	sum.traffic.received += r.traffic.received
	sum.failed += r.failed
	for code, n := range r.errors {
		sum.errors[code] += n
	}
	if r.firstErr != nil && (sum.firstErr == nil || r.firstAt.Before(sum.firstAt)) {
		sum.firstErr, sum.firstAt = r.firstErr, r.firstAt
	}
}
