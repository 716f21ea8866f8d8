package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/handler/structmode/rule"
)

// structCounters are the metrics of struct mode.
type structCounters struct {
	hits         *prometheus.CounterVec
	decodeErrors *prometheus.CounterVec
	decodeTime   *prometheus.CounterVec
}

func (c *structCounters) init(registry prometheus.Registerer) {
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"route", "backend"}, labels...))
	}
	c.hits = counters("framegate_rule_hits_total", "Messages that a rule acted on, by action, at the end of their call.", "action")
	c.decodeErrors = counters("framegate_decode_errors_total", "Messages of struct mode that could not be decoded, at the end of their call.")
	c.decodeTime = counters("framegate_decode_seconds_total", "Time spent on decoding, filtering and encoding messages in struct mode, at the end of their call.")
	registry.MustRegister(c.hits, c.decodeErrors, c.decodeTime)
}

// of returns the counters of a route and backend.
func (c *structCounters) of(route, backend string) *structTraffic {
	t := &structTraffic{decodeErrors: c.decodeErrors.WithLabelValues(route, backend), decodeTime: c.decodeTime.WithLabelValues(route, backend)}
	for a := range t.hits {
		t.hits[a] = c.hits.WithLabelValues(route, backend, rule.Action(a).String())
	}
	return t
}

// drop deletes the counters that of made for a route and backend.
func (c *structCounters) drop(route, backend string) {
	for a := range rule.NumActions {
		c.hits.DeleteLabelValues(route, backend, a.String())
	}
	c.decodeErrors.DeleteLabelValues(route, backend)
	c.decodeTime.DeleteLabelValues(route, backend)
}

// structTraffic has the struct-mode metrics of a route and backend, which all their series share.
type structTraffic struct {
	hits                     [rule.NumActions]prometheus.Counter
	decodeErrors, decodeTime prometheus.Counter
}

func (t *structTraffic) add(s *structmode.Stats) {
	for a, n := range s.Hits {
		if n > 0 {
			t.hits[a].Add(float64(n))
		}
	}
	t.decodeErrors.Add(float64(s.DecodeErrors))
	t.decodeTime.Add(s.DecodeTime.Seconds())
}
