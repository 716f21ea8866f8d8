package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/framegate/framegate/test/chaos"
	"github.com/framegate/framegate/test/race"
)

// ratePerSecond is how many calls are begun each second.
var ratePerSecond = race.Choose(300, 120)

const (
	callLimit   = 10 * time.Second
	maxInFlight = 512 // calls; a call that is due beyond that is skipped and counted
	connections = 4
)

// tally counts the calls of one kind.
type tally struct {
	Made, AsWanted int
	Example        error // the last error of a call that did not end as it should
}

// share returns the share of the calls that ended as they should, 0 if there was none.
func (t tally) share() float64 {
	if t.Made == 0 {
		return 0
	}
	return float64(t.AsWanted) / float64(t.Made)
}

// load makes calls of all kinds at a constant rate, whether earlier calls have ended or not.
type load struct {
	clients []client
	stop    context.CancelFunc
	wg      sync.WaitGroup // the loop, and the calls

	mu      sync.Mutex // guards all below
	tallies map[string]*tally
	skipped int // calls that were due when too many were in flight
}

// startLoad begins to make calls through addr. The caller ends it with finish.
func startLoad(t testing.TB, addr string) *load {
	t.Helper()
	l := &load{tallies: map[string]*tally{}}
	for _, k := range kinds {
		l.tallies[k.name] = &tally{}
	}
	for range connections {
		l.clients = append(l.clients, client{addr: addr, cc: chaos.Dial(t, addr)})
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	l.wg.Go(func() { l.pace(ctx) })
	t.Cleanup(l.finish)
	return l
}

// finish stops making calls and waits for those in flight. It may be called more than once.
func (l *load) finish() {
	l.stop()
	l.wg.Wait()
}

func (l *load) pace(ctx context.Context) {
	rng := rand.New(rand.NewPCG(1, 2)) // the same mix in every run
	slots := make(chan struct{}, maxInFlight)
	tick := time.NewTicker(time.Second / time.Duration(ratePerSecond))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		select {
		case slots <- struct{}{}:
		default:
			l.mu.Lock()
			l.skipped++
			l.mu.Unlock()
			continue
		}
		k := pickKind(rng)
		l.wg.Go(func() {
			defer func() { <-slots }()
			l.make(k, l.clients[n%connections])
		})
	}
}

func pickKind(rng *rand.Rand) kind {
	sum := 0
	for _, k := range kinds {
		sum += k.weight
	}
	at := rng.IntN(sum)
	for _, k := range kinds {
		if at -= k.weight; at < 0 {
			return k
		}
	}
	return kinds[0]
}

// make makes one call and counts it. The end of the load does not cancel the call.
func (l *load) make(k kind, c client) {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	err := k.call(ctx, c)
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tallies[k.name]
	t.Made++
	if err == nil {
		t.AsWanted++
	} else {
		t.Example = err
	}
}

// String is a line for each kind. The load must have finished.
func (l *load) String() string {
	var b strings.Builder
	for _, k := range kinds {
		t := l.tallies[k.name]
		fmt.Fprintf(&b, "\n  %-22s %6d calls, %5d not as wanted", k.name, t.Made, t.Made-t.AsWanted)
		if t.Example != nil {
			fmt.Fprintf(&b, ", such as: %.140v", t.Example)
		}
	}
	fmt.Fprintf(&b, "\n  %-22s %6d calls", "not made", l.skipped)
	return b.String()
}
