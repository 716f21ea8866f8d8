package admin

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/mirror"
)

var (
	mirrorActive   = prometheus.NewDesc("framegate_mirror_active_calls", "Copies of calls under way at a mirror's backend.", []string{"route", "mirror"}, nil)
	mirrorCalls    = prometheus.NewDesc("framegate_mirror_calls_total", "Copies of calls that a mirror's backend has ended, by code.", []string{"route", "mirror", "code"}, nil)
	mirrorMessages = prometheus.NewDesc("framegate_mirror_messages_total", "Messages that a mirror was given.", []string{"route", "mirror"}, nil)
	mirrorBytes    = prometheus.NewDesc("framegate_mirror_bytes_total", "Bytes of these messages' payloads.", []string{"route", "mirror"}, nil)
	mirrorDropped  = prometheus.NewDesc("framegate_mirror_dropped_total", "Copies of calls (max_calls, unreachable, stalled) and messages (the other reasons) that were left out.", []string{"route", "mirror", "reason"}, nil)
	mirrorCompared = prometheus.NewDesc("framegate_mirror_compared_total", "Calls whose answers were compared, by result.", []string{"route", "mirror", "result"}, nil)
	mirrorWaiting  = prometheus.NewDesc("framegate_mirror_waiting_messages", "Messages that a mirror was given and that are not delivered.", []string{"route", "mirror"}, nil)
	mirrorUp       = prometheus.NewDesc("framegate_mirror_up", "0 while a mirror cannot be delivered to.", []string{"route", "mirror"}, nil)
)

// mirrorMetrics are the metrics of the mirrors of routes in force.
type mirrorMetrics struct{ mirrors func() []mirror.Status }

// Describe implements prometheus.Collector.
func (m *mirrorMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{mirrorActive, mirrorCalls, mirrorMessages, mirrorBytes, mirrorDropped, mirrorCompared, mirrorWaiting, mirrorUp} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. Of mirrors of one route and name, in two sources of routes, only the first is shown.
func (m *mirrorMetrics) Collect(ch chan<- prometheus.Metric) {
	if m.mirrors == nil {
		return
	}
	seen := map[[2]string]bool{}
	for _, st := range m.mirrors() {
		at := [2]string{labelValue(st.Route), labelValue(st.Name)}
		if seen[at] {
			continue
		}
		seen[at] = true
		up := 1.0
		if st.State == mirror.StateDown {
			up = 0
		}
		collect(ch, mirrorUp, prometheus.GaugeValue, up, at[:]...)
		collect(ch, mirrorActive, prometheus.GaugeValue, float64(st.Active), at[:]...)
		collect(ch, mirrorWaiting, prometheus.GaugeValue, float64(st.Waiting), at[:]...)
		collect(ch, mirrorMessages, prometheus.CounterValue, float64(st.Messages), at[:]...)
		collect(ch, mirrorBytes, prometheus.CounterValue, float64(st.Bytes), at[:]...)
		codes := map[string]int64{}
		for code, n := range st.Codes {
			codes[local.CodeName(code)] += n // codes that gRPC does not define have one name
		}
		for code, n := range codes {
			collect(ch, mirrorCalls, prometheus.CounterValue, float64(n), at[0], at[1], code)
		}
		for why, n := range st.Dropped {
			collect(ch, mirrorDropped, prometheus.CounterValue, float64(n), at[0], at[1], string(why))
		}
		for result, n := range st.Compared {
			collect(ch, mirrorCompared, prometheus.CounterValue, float64(n), at[0], at[1], string(result))
		}
	}
}

// targetCounters count the parts of calls with a fan-out: a handler.EndObserver.
type targetCounters struct {
	ended *prometheus.CounterVec

	mu    sync.Mutex         // guards known
	known map[[2]string]bool // the routes and backends that have series
}

func (c *targetCounters) init(registry prometheus.Registerer) {
	c.ended = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "framegate_fanout_targets_total", Help: "Targets of calls with a fan-out that have ended, by code.",
	}, []string{"route", "backend", "code"})
	c.known = map[[2]string]bool{}
	registry.MustRegister(c.ended)
}

// CallEnded implements handler.EndObserver.
func (c *targetCounters) CallEnded(r *handler.Record) {
	at := [2]string{labelValue(r.Route), labelValue(r.Backend)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[at] = true
	c.ended.WithLabelValues(at[0], at[1], local.CodeName(r.Code)).Inc()
}

// keep deletes the series of routes and backends that are no longer in force.
func (c *targetCounters) keep(routes map[string]RouteNames) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at := range c.known {
		if names, ok := routes[at[0]]; !ok || !names.names(names.Backends, at[1]) {
			delete(c.known, at)
			c.ended.DeletePartialMatch(prometheus.Labels{"route": at[0], "backend": at[1]})
		}
	}
}
