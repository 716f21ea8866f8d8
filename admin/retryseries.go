package admin

import (
	"sync/atomic"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/local"
)

// retryCounters are the metrics of attempts beyond the first of their call.
type retryCounters struct {
	attempts   *prometheus.CounterVec
	overBudget *prometheus.CounterVec
}

// attemptKind is why an attempt was made; see handler.Attempts.
type attemptKind int

const (
	kindTransparent attemptKind = iota
	kindRetry
	kindHedge
	numAttemptKinds
)

var attemptKindNames = [numAttemptKinds]string{"transparent", "retry", "hedge"}

func (k attemptKind) String() string { return attemptKindNames[k] }

func (c *retryCounters) init(registry prometheus.Registerer) {
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"route", "backend"}, labels...))
	}
	c.attempts = counters("framegate_retries_total", "Attempts beyond the first of their call, at its end: by kind (transparent: the endpoint before did not see the call; retry; hedge), and by the code that the call ended with.", "kind", "code")
	c.overBudget = counters("framegate_retries_over_budget_total", "Retries and hedges that were not made, because the route had as many under way as its budget allows.")
	registry.MustRegister(c.attempts, c.overBudget)
}

// of returns the counters of a route and backend.
func (c *retryCounters) of(route, backend string) *retryTraffic {
	return &retryTraffic{counters: c, route: route, backend: backend, overBudget: c.overBudget.WithLabelValues(route, backend)}
}

// retryTraffic has the retry metrics of a route and backend, which all their series share. It is made at the end of the first
// call that was tried again, or would have been within its budget.
type retryTraffic struct {
	counters       *retryCounters
	route, backend string
	attempts       [numAttemptKinds][codeSlots]atomic.Pointer[counter] // each made when it is first needed
	overBudget     prometheus.Counter
}

func (t *retryTraffic) add(r *handler.Record) {
	for kind, n := range [numAttemptKinds]int{kindTransparent: r.Attempts.Transparent, kindRetry: r.Attempts.Retries, kindHedge: r.Attempts.Hedges} {
		if n > 0 {
			t.counter(attemptKind(kind), r.Code).Add(float64(n))
		}
	}
	if r.Attempts.OverBudget {
		t.overBudget.Inc()
	}
}

func (t *retryTraffic) counter(kind attemptKind, code codes.Code) *counter {
	slot := &t.attempts[kind][codeSlot(code)]
	c := slot.Load()
	if c == nil {
		c = &counter{t.counters.attempts.WithLabelValues(t.route, t.backend, kind.String(), local.CodeName(code))}
		slot.Store(c) // two calls may both get here: they store the same counter
	}
	return c
}

// drop deletes the counters of the route and backend.
func (t *retryTraffic) drop() {
	for kind := range numAttemptKinds {
		for code := range t.attempts[kind] {
			if t.attempts[kind][code].Load() != nil {
				t.counters.attempts.DeleteLabelValues(t.route, t.backend, kind.String(), local.CodeName(codes.Code(code)))
			}
		}
	}
	t.counters.overBudget.DeleteLabelValues(t.route, t.backend)
}
