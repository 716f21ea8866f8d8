package limit

import "sync/atomic"

// Defaults of a Budget.
const (
	DefaultBudgetPercent = 20
	DefaultBudgetMin     = 3
)

// Budget bounds the retries under way to a share of the calls under way. If all calls fail, retries add that share to the
// load instead of multiplying it. A few retries are always allowed, so that there are some at low load.
type Budget struct {
	percent, minRetries int64
	calls, retries      atomic.Int64
}

// NewBudget returns a Budget that allows retries of up to percent of the calls under way, rounded down, but always
// minRetries of them. For both, 0 means the default and less than 0 means none.
func NewBudget(percent, minRetries int) *Budget {
	if percent == 0 {
		percent = DefaultBudgetPercent
	}
	if minRetries == 0 {
		minRetries = DefaultBudgetMin
	}
	return &Budget{percent: int64(max(0, percent)), minRetries: int64(max(0, minRetries))}
}

// Begin counts a call, whether or not it is retried. Each Begin needs one End of the same Budget.
func (b *Budget) Begin() { b.calls.Add(1) }

// End ends a call that Begin has counted, after all its attempts.
func (b *Budget) End() { b.calls.Add(-1) }

// Retry counts one more retry and reports true, if the budget allows it. Each true needs one RetryEnd, when the retry ends.
func (b *Budget) Retry() bool {
	for {
		n := b.retries.Load()
		if n >= max(b.minRetries, b.calls.Load()*b.percent/100) {
			return false
		}
		if b.retries.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// RetryEnd ends a retry that Retry has counted.
func (b *Budget) RetryEnd() { b.retries.Add(-1) }

// Active returns how many calls and how many retries are under way.
func (b *Budget) Active() (calls, retries int) { return int(b.calls.Load()), int(b.retries.Load()) }
