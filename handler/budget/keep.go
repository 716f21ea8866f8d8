package budget

// Keep is memory of one call that the call can do without, such as that of a request that is kept for a further attempt. All
// Keeps together may hold a half of the part for small messages. Hold never waits. A Keep is guarded by its owner's lock.
// The zero Keep has no bound.
type Keep struct {
	budget *Budget
	held   int64
}

// Of makes k take from b, which may be nil for no bound. k must hold nothing yet.
func (k *Keep) Of(b *Budget) { k.budget = b }

// Hold changes what k holds to n bytes. If there is no room for more, it changes nothing and reports false; to hold less
// always succeeds.
func (k *Keep) Hold(n int64) bool {
	more := n - k.held
	if k.budget == nil || more == 0 {
		return true
	}
	b := k.budget
	kept, small := b.kept.Add(more), b.small.Add(more)
	if more > 0 && (kept > b.keptMax || small > b.smallMax) {
		b.kept.Add(-more)
		b.small.Add(-more)
		return false
	}
	k.held = n
	return true
}
