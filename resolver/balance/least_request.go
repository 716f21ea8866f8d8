package balance

// leastRequest draws two members and takes the less loaded one. That is nearly as good as the least loaded of all, costs only
// two draws, and keeps gateways that see the same loads from all choosing the same host.
//
// It evens out the calls under way. So a host that is 50 times as slow as another still gets a 50th of the other's calls, and
// more if there are seldom calls under way. PeakEWMA avoids such a host.
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
