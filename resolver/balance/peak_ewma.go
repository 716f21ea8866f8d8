package balance

import (
	"math"
	"time"
)

// peakEWMA draws two members and takes the cheaper one. The cost of a host is its estimated latency times the number of calls
// that it would have under way with the new one. The estimate is that of Host.Answered; while there is no answer it falls to
// 1/e in each Decay, so that a host that was slow gets a call again after some time.
//
// A host that has never answered costs nothing while it has no call under way, so that it gets one call for an estimate.
// Until that call is answered it costs more than any host that has answered.
type peakEWMA struct {
	shares *shares
	decay  float64 // nanoseconds
}

func newPeakEWMA(members []Member, decay time.Duration, random func() uint64) *peakEWMA {
	for i := range members {
		if h := members[i].Host; h != nil {
			h.decay.Store(int64(decay))
		}
	}
	return &peakEWMA{shares: newShares(members, random), decay: float64(decay)}
}

func (p *peakEWMA) Pick(_ uint64, tried []*Host) *Host {
	first, second := p.shares.two(tried)
	switch {
	case first == nil:
		return nil
	case second == nil:
		return first.host
	case p.cheaper(second.host, first.host):
		return second.host
	}
	return first.host
}

// cheaper reports whether a costs less than b.
func (p *peakEWMA) cheaper(a, b *Host) bool {
	aPeak, aStamp := a.latency()
	bPeak, bStamp := b.latency()
	aActive, bActive := a.active.Load(), b.active.Load()
	switch {
	case aPeak == 0 && bPeak == 0:
		return aActive < bActive
	case aPeak == 0:
		return aActive == 0
	case bPeak == 0:
		return bActive != 0
	}
	// Both estimates fall at the same rate, so their ratio is the same as at the later of the two stamps. So the present time
	// does not matter, and no clock is read.
	aCost, bCost := aPeak*float64(aActive+1), bPeak*float64(bActive+1)
	return aCost*math.Exp(float64(aStamp-bStamp)/p.decay) < bCost
}
