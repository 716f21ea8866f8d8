package balance

import (
	"math"
	"time"
)

// peakEWMA takes the cheaper of two. A call costs the latency that the host is estimated to have, times the calls that
// would be under way with it. The estimate is Host.Answered's; since the last answer it has shrunk by 1/e per Decay, so
// that a host that was slow gets another call some time.
//
// A host that has not answered yet costs nothing while nothing is under way there: it gets one call, to learn from.
// Until that is answered it costs more than any that has answered.
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
	// Both estimates shrink at the same rate, so their ratio stays what it was when the later one was made: what time
	// it is now does not matter, and no clock is read.
	aCost, bCost := aPeak*float64(aActive+1), bPeak*float64(bActive+1)
	return aCost*math.Exp(float64(aStamp-bStamp)/p.decay) < bCost
}
