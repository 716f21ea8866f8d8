package load

import (
	"context"
	"sync"
	"time"
)

const (
	progressEvery  = time.Second // how often Run reports
	slicesPerSide  = 4           // with a baseline; without one a side is one slice
	rewarmFraction = 4           // a side's later slices warm up for this part of Warmup: only its caches have gone cold
)

// Progress is how far a run is.
type Progress struct {
	Side           string        // "target" or "baseline"
	Elapsed, Total time.Duration // of the whole run, warm-ups included
	Calls          int64         // counted on this side so far, and the same for Errors
	Errors         int64
	CallsPerSecond float64 // on this side since the last report; 0 while it warms up
}

// Run makes the load that cfg describes and returns what it measured. It calls progress, if not nil, about once a second, never two at
// a time and never after it has returned. When ctx ends, Run stops early and returns what it has, without an error; calls still in flight
// then have a second to be answered. The error is a *ConfigError, or says why an address could not be used. Failed calls are no error
// of Run; see Result.Err.
func Run(ctx context.Context, cfg Config, progress func(Progress)) (*Result, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	sides, err := newSides(ctx, cfg)
	for _, s := range sides {
		defer s.close()
	}
	if err != nil {
		return nil, err
	}

	plan := newPlan(cfg, sides)
	if progress != nil {
		stop := plan.report(progress)
		defer stop()
	}
	for _, st := range plan.steps {
		if ctx.Err() != nil {
			break
		}
		plan.enter(st.side)
		runSlice(ctx, cfg, st.side, newWindow(st.warmup, st.length))
	}
	return newResult(cfg, sides, ctx.Err() != nil), nil
}

// newSides returns the target and, if there is one, the baseline. The caller closes them, also those returned with an error.
func newSides(ctx context.Context, cfg Config) (sides []*side, err error) {
	for _, a := range []struct{ name, address string }{{"target", cfg.Target}, {"baseline", cfg.Baseline}} {
		if a.address == "" {
			continue
		}
		s, err := newSide(ctx, a.name, a.address, cfg)
		if err != nil {
			return sides, err
		}
		sides = append(sides, s)
	}
	return sides, nil
}

// step is one slice to come.
type step struct {
	side           *side
	warmup, length time.Duration
}

// plan is the order of a run's slices.
type plan struct {
	steps []step
	total time.Duration

	mu  sync.Mutex // guards now
	now *side      // the side under load; nil before the first
}

// newPlan gives each side cfg.Duration: in one slice if it is alone, otherwise in slicesPerSide of them, taking turns.
func newPlan(cfg Config, sides []*side) *plan {
	rounds := 1
	if len(sides) > 1 {
		rounds = slicesPerSide
	}
	p := &plan{}
	for round := range rounds {
		warmup := cfg.Warmup
		if round > 0 {
			warmup /= rewarmFraction
		}
		for _, s := range sides {
			st := step{s, warmup, cfg.Duration / time.Duration(rounds)}
			p.steps = append(p.steps, st)
			p.total += st.warmup + st.length
		}
	}
	return p
}

func (p *plan) enter(s *side) {
	p.mu.Lock()
	p.now = s
	p.mu.Unlock()
}

func (p *plan) current() *side {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// report calls progress every progressEvery until stop is called, which waits for the last call to return.
func (p *plan) report(progress func(Progress)) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(progressEvery)
		defer ticker.Stop()
		started, last := time.Now(), time.Now()
		before := make(map[*side]int64)
		for {
			select {
			case <-quit:
				return
			case now := <-ticker.C:
				s := p.current()
				if s == nil {
					continue
				}
				calls, failed := s.counts()
				progress(Progress{
					Side: s.name, Elapsed: min(now.Sub(started), p.total), Total: p.total, Calls: calls, Errors: failed,
					CallsPerSecond: float64(calls-before[s]) / now.Sub(last).Seconds(),
				})
				before[s], last = calls, now
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}
