package load

import (
	"fmt"
	"time"
)

// errNoAnswer is the error of a call that had no answer when its slice was long over.
var errNoAnswer = fmt.Errorf("no answer %v after the load had ended", answerGrace)

// Result is what a run measured. Its JSON form is the output of `framegate bench --json`: names carry their units, fields may be added,
// none is renamed.
type Result struct {
	Mode            Mode    `json:"mode"`
	DurationSeconds float64 `json:"duration_s"` // asked for, per side
	WarmupSeconds   float64 `json:"warmup_s"`
	Connections     int     `json:"connections"` // per side
	Concurrency     int     `json:"concurrency"` // calls or streams in flight per side
	SizeBytes       int     `json:"size_bytes"`  // payload of a message
	// MessagesPerCall is 1 but in the client and server modes.
	MessagesPerCall int  `json:"messages_per_call"`
	RatePerSecond   int  `json:"rate_calls_per_s"` // 0 = as fast as calls return
	Interrupted     bool `json:"interrupted"`      // the run was ended before its time

	Target   Measured  `json:"target"`
	Baseline *Measured `json:"baseline,omitempty"`
	// Ratio is target ÷ baseline; absent unless calls succeeded on both.
	Ratio *Ratio `json:"ratio,omitempty"`
}

// Measured is what was measured on one side.
type Measured struct {
	Address        string  `json:"address"`
	ElapsedSeconds float64 `json:"elapsed_s"` // measured time, without warm-ups
	// Calls is the number of calls, begun in the measured time, that succeeded: those that LatencyUS describes. In the bidi mode a call
	// is a round trip.
	Calls      int64      `json:"calls"`
	Throughput Throughput `json:"throughput"`
	LatencyUS  LatencyUS  `json:"latency_us"`
	// ErrorCount is the number of calls, begun in the measured time, that failed, and Errors the same by gRPC code name (UNAVAILABLE, ...)
	// or BIZ_STATUS(n) for a Kitex business error.
	ErrorCount int64            `json:"error_count"`
	Errors     map[string]int64 `json:"errors"`
	FirstError string           `json:"first_error,omitempty"`
	// UnsentCalls is the number of calls that a constant rate made due and that were not begun, because all workers were still waiting
	// for an answer: the address under load, or Concurrency, is too slow for the rate.
	UnsentCalls int64 `json:"unsent_calls"`
	// ConnectionsDialed is more than Connections if connections broke.
	ConnectionsDialed int64 `json:"connections_dialed"`
}

// Throughput counts the calls that ended well in the measured time, divided by that time. 1 MB is 10^6 bytes; only payload counts.
type Throughput struct {
	CallsPerSecond      float64 `json:"calls_per_s"`
	SentMBPerSecond     float64 `json:"sent_mb_per_s"`
	ReceivedMBPerSecond float64 `json:"received_mb_per_s"`
}

// LatencyUS holds latencies in microseconds, to three figures. A latency counts from the beginning of the call, or at a constant rate
// from the time that the call was due.
type LatencyUS struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
	Max  float64 `json:"max"`
}

// Ratio compares the target with the baseline: 1 is the same.
type Ratio struct {
	Throughput float64 `json:"throughput"` // more is better
	P50        float64 `json:"p50"`        // less is better
	P99        float64 `json:"p99"`
}

func newResult(cfg Config, sides []*side, interrupted bool) *Result {
	r := &Result{
		Mode: cfg.Mode, DurationSeconds: cfg.Duration.Seconds(), WarmupSeconds: cfg.Warmup.Seconds(),
		Connections: cfg.Connections, Concurrency: cfg.Concurrency, SizeBytes: cfg.SizeBytes, MessagesPerCall: 1,
		RatePerSecond: cfg.RatePerSecond, Interrupted: interrupted,
		Target: newMeasured(sides[0]),
	}
	if cfg.Mode == Client || cfg.Mode == Server {
		r.MessagesPerCall = cfg.Messages
	}
	if len(sides) > 1 {
		baseline := newMeasured(sides[1])
		r.Baseline = &baseline
		r.Ratio = newRatio(r.Target, baseline)
	}
	return r
}

func newMeasured(s *side) Measured {
	sum := s.totals()
	m := Measured{
		Address: s.address, ElapsedSeconds: s.measured.Seconds(), Calls: sum.latencies.TotalCount(),
		ErrorCount: sum.failed, Errors: sum.errors, UnsentCalls: s.unsent, ConnectionsDialed: s.dialer.dialed(),
	}
	if sum.firstErr != nil {
		m.FirstError = sum.firstErr.Error()
	}
	if t := m.ElapsedSeconds; t > 0 {
		m.Throughput = Throughput{
			float64(sum.inWindow) / t, float64(sum.traffic.sent) / t / 1e6, float64(sum.traffic.received) / t / 1e6,
		}
	}
	if m.Calls > 0 {
		at := func(percentile float64) float64 {
			return float64(sum.latencies.ValueAtPercentile(percentile)) / float64(time.Microsecond)
		}
		m.LatencyUS = LatencyUS{
			sum.latencies.Mean() / float64(time.Microsecond), at(50), at(90), at(99), at(99.9), at(100),
		}
	}
	return m
}

func newRatio(target, baseline Measured) *Ratio {
	if target.Calls == 0 || baseline.Throughput.CallsPerSecond == 0 || baseline.LatencyUS.P50 == 0 {
		return nil
	}
	return &Ratio{
		Throughput: target.Throughput.CallsPerSecond / baseline.Throughput.CallsPerSecond,
		P50:        target.LatencyUS.P50 / baseline.LatencyUS.P50,
		P99:        target.LatencyUS.P99 / baseline.LatencyUS.P99,
	}
}

// Err returns an error if a side that was under load answered no call at all, naming the first error seen there. An interrupted run
// may have had no time for the baseline; that is not an error.
func (r *Result) Err() error {
	if err := r.Target.err(r.Interrupted); err != nil {
		return err
	}
	if r.Baseline == nil || r.Interrupted && r.Baseline.ErrorCount == 0 {
		return nil
	}
	return r.Baseline.err(r.Interrupted)
}

func (m *Measured) err(interrupted bool) error {
	switch {
	case m.Calls > 0:
		return nil
	case m.ErrorCount > 0:
		return fmt.Errorf("load: not one call to %s succeeded; the first error: %s", m.Address, m.FirstError)
	case interrupted:
		return fmt.Errorf("load: interrupted before %s had answered a call in the measured time", m.Address)
	default:
		return fmt.Errorf("load: %s answered no call in the measured time", m.Address)
	}
}
