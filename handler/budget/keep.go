package budget

// Keep is what one call keeps that it can do without, such as a request in case that it is sent again. It has a half of
// what small messages have of the budget, where nobody waits. It is guarded by its owner. The zero Keep has no bound.
type Keep struct {
	budget *Budget
	held   int64
}

// Of makes k one of b, which may be nil for no bound. It holds nothing yet.
func (k *Keep) Of(b *Budget) { k.budget = b }

// Hold makes what is held n bytes, and reports false, with all as it was, if there is no room for them. There always is for
// less than before.
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
