package balance

// weightedRandom draws a member for each call, independently of earlier calls.
type weightedRandom struct{ shares *shares }

func newWeightedRandom(members []Member, random func() uint64) *weightedRandom {
	return &weightedRandom{shares: newShares(members, random)}
}

func (w *weightedRandom) Pick(_ uint64, tried []*Host) *Host {
	m := w.shares.one(tried)
	if m == nil {
		return nil
	}
	return m.host
}
