package balance

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"
)

// queue plays calls to three hosts in virtual time: each has workers that take 0.5 to 1.5 ms for a call, on the last
// host 50 times as long, and a queue in front of them.
type queue struct {
	workers int           // of each host
	calls   int           // to play
	gap     time.Duration // open loop: mean time between calls, which come at random
	clients int           // closed loop: how many callers make one call after the other; gap is then 0
}

const slowdown = 50

// result has the latencies of the calls that ended between the first tenth of the calls and the last call, sorted: what
// the beginning and the end bring is no part of the steady state.
type result struct{ all, fast []time.Duration }

// slowShare returns which part of the calls the slow host took.
func (r *result) slowShare() float64 {
	return 1 - float64(len(r.fast))/float64(len(r.all))
}

func percentile(sorted []time.Duration, p int) time.Duration { return sorted[len(sorted)*p/100] }

// event is a call that arrives (host -1) or ends.
type event struct {
	at   time.Duration
	host int
	call time.Duration // when it arrived
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func (q queue) play(kind Kind) *result {
	random := rand.New(rand.NewPCG(7, 11))
	var now time.Duration
	var members []Member
	for _, address := range []string{"a", "b", "slow"} {
		h := newHost(address, func() time.Duration { return now })
		members = append(members, Member{Host: h, Weight: 1})
	}
	p := newPicker(Policy{Kind: kind}, members, nil, random.Uint64)

	var agenda events
	var waiting [3][]time.Duration
	var working [3]int
	start := func(host int, call time.Duration) {
		service := time.Duration((0.5 + random.Float64()) * float64(time.Millisecond))
		if host == 2 {
			service *= slowdown
		}
		working[host]++
		heap.Push(&agenda, event{at: now + service, host: host, call: call})
	}
	if q.gap > 0 {
		heap.Push(&agenda, event{host: -1})
	}
	for range q.clients {
		heap.Push(&agenda, event{host: -1})
	}
	r := &result{}
	for came := 0; len(agenda) > 0; {
		e := heap.Pop(&agenda).(event)
		now = e.at
		if e.host < 0 {
			if came++; came > q.calls {
				continue
			}
			h := p.Pick(0, nil)
			h.Begin()
			host := slices.IndexFunc(members, func(m Member) bool { return m.Host == h })
			if working[host] < q.workers {
				start(host, now)
			} else {
				waiting[host] = append(waiting[host], now)
			}
			if q.gap > 0 {
				heap.Push(&agenda, event{at: now + time.Duration(random.ExpFloat64()*float64(q.gap)), host: -1})
			}
			continue
		}
		members[e.host].Host.End()
		members[e.host].Host.Answered(now - e.call)
		if came > q.calls/10 && came <= q.calls {
			r.all = append(r.all, now-e.call)
			if e.host != 2 {
				r.fast = append(r.fast, now-e.call)
			}
		}
		working[e.host]--
		if w := waiting[e.host]; len(w) > 0 {
			waiting[e.host] = w[1:]
			start(e.host, w[0])
		}
		if q.gap == 0 {
			heap.Push(&agenda, event{at: now, host: -1})
		}
	}
	slices.Sort(r.all)
	slices.Sort(r.fast)
	return r
}

// openLoads are loads as a part of what the two fast hosts can do; closedLoads are from a single caller to more than
// the workers can take.
func openLoads() []queue {
	var qs []queue
	for _, workers := range []int{1, 4, 16} {
		for _, percent := range []int{5, 20, 50, 80, 90} {
			callsPerSecond := 2 * 1000 * workers * percent / 100
			qs = append(qs, queue{workers: workers, calls: 20_000, gap: time.Second / time.Duration(callsPerSecond)})
		}
	}
	return qs
}

func closedLoads() []queue {
	var qs []queue
	for _, workers := range []int{1, 4, 16} {
		for _, clients := range []int{2, 6, 24} {
			qs = append(qs, queue{workers: workers, calls: 20_000, clients: clients})
		}
	}
	return qs
}
