package balance

// leastRequest takes the less loaded of two: nearly as good as the least loaded of all, at the cost of two, and
// gateways that see the same loads do not all run to the same host.
//
// It evens out what is under way, so that of two hosts the one that is 50 times as slow still gets a 50th of the
// other's calls, and more where there is seldom anything under way. PeakEWMA avoids such a host.
type leastRequest struct{ shares *shares }

func newLeastRequest(members []Member, random func() uint64) *leastRequest {
	return &leastRequest{shares: newShares(members, random)}
}

func (l *leastRequest) Pick(_ uint64, tried []*Host) *Host {
	first, second := l.shares.two(tried)
	switch {
	case first == nil:
		return nil
	case second == nil:
		return first.host
	}
	// Active/weight of each, multiplied by both weights. At a tie the first, which is drawn by weight among all.
	if float64(second.host.Active())*first.weight < float64(first.host.Active())*second.weight {
		return second.host
	}
	return first.host
}
