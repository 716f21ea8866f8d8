package limit

import "sync/atomic"

// Defaults of a Budget.
const (
	DefaultBudgetPercent = 20
	DefaultBudgetMin     = 3
)

// Budget bounds the retries that are under way to a share of the calls that are. When everything fails, retries then
// add a share to the load instead of multiplying it. A few are always allowed, so that there are retries at low load.
type Budget struct {
	percent, least int64
	calls, retries atomic.Int64
}

// NewBudget returns a Budget that allows retries of up to percent of the calls under way, rounded down, and always min
// of them. Of both, 0 means the default and less than 0 means none.
func NewBudget(percent, min int) *Budget {
	if percent == 0 {
		percent = DefaultBudgetPercent
	}
	if min == 0 {
		min = DefaultBudgetMin
	}
	return &Budget{percent: int64(max(0, percent)), least: int64(max(0, min))}
}

// Begin counts a call, whether or not it is retried. Each Begin needs one End of the same Budget.
func (b *Budget) Begin() { b.calls.Add(1) }

// End is the end of a call with all its tries.
func (b *Budget) End() { b.calls.Add(-1) }

// Retry reports whether one more retry may be under way. Each true needs one RetryEnd, at the end of that try.
func (b *Budget) Retry() bool {
	for {
		n := b.retries.Load()
		if n >= max(b.least, b.calls.Load()*b.percent/100) {
			return false
		}
		if b.retries.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// RetryEnd is the end of a retry.
func (b *Budget) RetryEnd() { b.retries.Add(-1) }

// Active returns how many calls, and how many retries of them, are under way.
func (b *Budget) Active() (calls, retries int) { return int(b.calls.Load()), int(b.retries.Load()) }
