package admin

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/framegate/framegate/resolver/cluster"
)

// endpointMetrics are the metrics of each group of endpoints: endpoints by state, panics and ejections. A group is a service
// that routes name, with its tags, or a backend that lists its endpoints. A single endpoint has no series, because there may
// be thousands; GET /v1/endpoints has those.
//
// A service that several backends use with different health checks or ejection is one group here; an endpoint counts in the
// worst of its states.
type endpointMetrics struct {
	groups func() ([]cluster.State, []cluster.EndpointState)
}

// groupLabels are the labels of a group: service and tags, or route and backend; the other two are empty. A backend without
// a name has an empty label, as in the metrics of calls.
type groupLabels struct{ service, tags, route, backend string }

var groupLabelNames = []string{"service", "tags", "route", "backend"}

var (
	endpointsDesc  = prometheus.NewDesc("framegate_endpoints", "Endpoints by state: usable, unhealthy (health checks fail), ejected (calls failed), unreachable (cannot be connected to), off (of weight 0), refused (it may not be one) or unresolved (a name without an address).", append(groupLabelNames[:4:4], "state"), nil)
	panicDesc      = prometheus.NewDesc("framegate_endpoints_panic", "1 while so few endpoints are usable that calls go to all of them.", groupLabelNames, nil)
	panicCallsDesc = prometheus.NewDesc("framegate_panic_attempts_total", "Attempts of calls that were balanced among all endpoints, because too few were usable.", groupLabelNames, nil)
	ejectionsDesc  = prometheus.NewDesc("framegate_ejections_total", "Ejections of endpoints whose calls failed.", groupLabelNames, nil)
	preventedDesc  = prometheus.NewDesc("framegate_ejections_prevented_total", "Ejections that were not made, because as many endpoints were ejected as may be.", groupLabelNames, nil)
)

func (n groupLabels) values(more ...string) []string {
	return append([]string{n.service, n.tags, n.route, n.backend}, more...)
}

func labelsOf(n cluster.ID) groupLabels {
	backend := n.Backend
	if strings.HasPrefix(backend, "#") { // the index of a backend without a name
		backend = ""
	}
	return groupLabels{labelValue(n.Service), labelValue(n.Tags), labelValue(n.Route), labelValue(backend)}
}

// Describe implements prometheus.Collector.
func (*endpointMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{endpointsDesc, panicDesc, panicCallsDesc, ejectionsDesc, preventedDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *endpointMetrics) Collect(ch chan<- prometheus.Metric) {
	if m.groups == nil {
		return
	}
	groups, endpoints := m.groups()
	totals := map[groupLabels]cluster.State{} // summed, because a scrape with two metrics of the same labels fails
	for _, g := range groups {
		n := labelsOf(g.ID)
		t := totals[n]
		t.Panic = t.Panic || g.Panic
		t.PanicCalls += g.PanicCalls
		t.Ejections += g.Ejections
		t.EjectionsPrevented += g.EjectionsPrevented
		totals[n] = t
	}
	count := countStates(endpoints)
	for n, t := range totals {
		for _, s := range states {
			collect(ch, endpointsDesc, prometheus.GaugeValue, float64(count[n][s]), n.values(string(s))...)
		}
		panicky := 0.0
		if t.Panic {
			panicky = 1
		}
		collect(ch, panicDesc, prometheus.GaugeValue, panicky, n.values()...)
		collect(ch, panicCallsDesc, prometheus.CounterValue, float64(t.PanicCalls), n.values()...)
		collect(ch, ejectionsDesc, prometheus.CounterValue, float64(t.Ejections), n.values()...)
		collect(ch, preventedDesc, prometheus.CounterValue, float64(t.EjectionsPrevented), n.values()...)
	}
}

// countStates counts the endpoints of each group by state, an address that is in a group twice only once.
func countStates(endpoints []cluster.EndpointState) map[groupLabels]map[State]int {
	type place struct {
		groupLabels
		address string
	}
	count := map[groupLabels]map[State]int{}
	met := make(map[place]State, len(endpoints))
	for _, e := range endpoints {
		at, state := place{labelsOf(e.ID), e.Address}, stateOf(e)
		of := count[at.groupLabels]
		if of == nil {
			of = map[State]int{}
			count[at.groupLabels] = of
		}
		if before, ok := met[at]; ok {
			of[before]--
			if slices.Index(states, before) < slices.Index(states, state) {
				state = before
			}
		}
		of[state]++
		met[at] = state
	}
	return count
}
