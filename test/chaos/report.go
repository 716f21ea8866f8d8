package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

// Report has the results of a load.
type Report struct {
	Begun   time.Time
	Planned int // unary calls that were due
	Calls   []Call
	Streams []StreamResult
}

// Bounds that the harness itself must have kept, so that its figures are those of framegate and not of a slow machine.
const (
	maxLateness  = 500 * time.Millisecond // p99 of how much later than due calls began
	minRateShare = 0.95                   // share of the due calls that were made
)

// KeptRate returns an error if the load was not made at its rate. Then the machine was too slow, and the figures say nothing
// about framegate.
func (r *Report) KeptRate() error {
	if late := r.Lateness(); late > maxLateness {
		return fmt.Errorf("chaos: the harness, not framegate: 1%% of the calls began more than %s late, want %s at most",
			late, maxLateness)
	}
	if share := float64(len(r.Calls)) / float64(max(1, r.Planned)); share < minRateShare {
		return fmt.Errorf("chaos: the harness, not framegate: %d of %d calls were made, want a share of %.2f",
			len(r.Calls), r.Planned, minRateShare)
	}
	return nil
}

// Lateness returns the p99 of how much later than due calls began.
func (r *Report) Lateness() time.Duration {
	late := make([]time.Duration, len(r.Calls))
	for i, c := range r.Calls {
		late[i] = c.Begun.Sub(c.Due)
	}
	return quantile(late, 0.99)
}

// quantile returns the q-quantile of d, which it sorts; 0 if d is empty.
func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(len(d)-1, int(q*float64(len(d))))]
}

// Window has the results of some of the calls, such as those that began in a period.
type Window struct {
	Name     string
	Calls    int
	Good     int
	Outcomes map[string]int    // of the calls that were not good, by code and reason
	Examples map[string]string // a message for each outcome
	P50, P99 time.Duration     // of the good calls, from when they were due
}

// Between returns the window of the calls that began in [from, to).
func (r *Report) Between(name string, from, to time.Time) Window {
	return r.Where(name, func(c Call) bool { return !c.Begun.Before(from) && c.Begun.Before(to) })
}

// Where returns the window of the calls for which in returns true.
func (r *Report) Where(name string, in func(Call) bool) Window {
	w := Window{Name: name, Outcomes: map[string]int{}, Examples: map[string]string{}}
	var latencies []time.Duration
	for _, c := range r.Calls {
		switch {
		case !in(c):
			continue
		case c.Code == codes.OK:
			w.Good++
			latencies = append(latencies, c.Ended.Sub(c.Due))
		default:
			w.Outcomes[c.String()]++
			w.Examples[c.String()] = c.Message
		}
		w.Calls++
	}
	w.P50, w.P99 = quantile(latencies, 0.5), quantile(latencies, 0.99)
	return w
}

// Lost returns how many calls were not good.
func (w Window) Lost() int { return w.Calls - w.Good }

// Share returns the good calls' share of all calls, 0 if there were none.
func (w Window) Share() float64 {
	if w.Calls == 0 {
		return 0
	}
	return float64(w.Good) / float64(w.Calls)
}

func (w Window) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-22s %5d calls, %4d lost, %7.3f %% good, p50 %5.1f ms, p99 %6.1f ms",
		w.Name, w.Calls, w.Lost(), 100*w.Share(), milliseconds(w.P50), milliseconds(w.P99))
	for _, o := range sortedKeys(w.Outcomes) {
		fmt.Fprintf(&b, "\n    %d × %s: %.120s", w.Outcomes[o], o, w.Examples[o])
	}
	return b.String()
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// StreamsSummary sums up the streams.
type StreamsSummary struct {
	Streams, Pongs, Broken int
	Stalled                int            // streams that once waited longer than maxPingSilence for an answer
	Outcomes               map[string]int // of the streams that broke, by code and reason
}

// Summary sums up the streams, with their breaks since from.
func (r *Report) Summary(from time.Time) StreamsSummary {
	s := StreamsSummary{Streams: len(r.Streams), Outcomes: map[string]int{}}
	for _, st := range r.Streams {
		s.Pongs += st.Pongs
		if st.LongestSilence > maxPingSilence {
			s.Stalled++
		}
		for _, b := range st.Breaks {
			if !b.At.Before(from) {
				s.Broken++
				s.Outcomes[b.String()]++
			}
		}
	}
	return s
}

func (s StreamsSummary) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-22s %5d answers on %d streams, %d times broken, %d stalled",
		"streams", s.Pongs, s.Streams, s.Broken, s.Stalled)
	for _, o := range sortedKeys(s.Outcomes) {
		fmt.Fprintf(&b, "\n    %d × %s", s.Outcomes[o], o)
	}
	return b.String()
}
