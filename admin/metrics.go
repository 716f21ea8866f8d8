package admin

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/handler/mirror"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/plain"
)

// MetricsConfig has the functions that return the values of metrics that calls do not report. A nil function leaves its
// metrics out. Each function is called once a scrape; scrapes may be concurrent.
type MetricsConfig struct {
	Routes           func() map[string]RouteNames // the routes in force, by name; the series of other routes are dropped. nil drops none
	Connections      func() map[string]int        // open connections by endpoint
	SentAway         func() map[string]int64      // connections ended because the endpoint broke the bounds of HTTP/2, by reason, since the start
	Clusters         func() ([]cluster.State, []cluster.EndpointState)
	Loads            func() []cluster.RouteLoad
	Config           func() ConfigStats
	AccessLogDropped func() int64
	Lookups          func() (answered, absent, failed uint64) // DNS look-ups of the names of endpoints
	Draining         func() bool
	HealthWatches    func() (now int, refused int64)
	Listeners        func() []ListenerStats
	Decoding         func() budget.Stats
	Mirrors          func() []mirror.Status // of the routes in force
}

// ListenerStats is the state of a listener, and its counts since the start.
type ListenerStats struct {
	Name               string
	Connections, Calls int              // now
	RefusedConnections int64            // over max_connections
	RefusedCalls       int64            // over max_calls or, while earlier calls of the client end, max_concurrent_streams; not reported to observers
	SentAway           map[string]int64 // connections ended because the client broke the bounds of HTTP/2, by reason
}

// RouteNames are the names in a route in force that become labels of its calls' metrics.
type RouteNames struct {
	Backends []string // their names
	Patterns []string // the methods of its matches
}

// has reports whether calls of the route may still have these labels. A call that got no endpoint has no backend.
func (n RouteNames) has(backend, pattern string) bool {
	return n.names(n.Backends, backend) && n.names(n.Patterns, pattern)
}

func (RouteNames) names(all []string, label string) bool {
	return label == "" || slices.ContainsFunc(all, func(name string) bool { return labelValue(name) == label })
}

// labelValue returns s as the value of a label: in UTF-8, because client_golang panics at anything else, and safe to print on
// a terminal.
func labelValue(s string) string { return plain.Line(strings.ToValidUTF8(s, "\uFFFD")) }

// ConfigStats is the state of the routes and services in force.
type ConfigStats struct {
	Revision   int64         // of etcd
	Age        time.Duration // since the source of the configuration was last known to be up to date; negative if it never was
	Stale      bool          // the source cannot be reached
	Rejected   int           // documents that are wrong and not in force now
	Rejections int64         // documents found wrong since the start

	SnapshotAge      time.Duration // since the snapshot was last written; negative if it never was
	SnapshotFailures int64         // times that it could not be written, since the start

	Kept     int   // instances that are no longer registered and still get calls (services.keep_on_loss)
	EverKept int64 // instances that were kept in this way since the start
}

// Metrics measures calls, for Prometheus. It is a handler.Observer.
//
// The number of series depends on the routes in force, their backends and patterns, never on what clients send. A series
// whose route, backend or pattern is no longer in force is dropped by the first scrape after its last call.
type Metrics struct {
	cfg      MetricsConfig
	registry *prometheus.Registry
	series   seriesSet
	targets  targetCounters
}

var _ handler.Observer = (*Metrics)(nil)

// NewMetrics returns Metrics with a registry of their own, which also measures the process and Go's runtime.
func NewMetrics(cfg MetricsConfig) *Metrics {
	m := &Metrics{cfg: cfg, registry: prometheus.NewRegistry()}
	m.series.init(m.registry)
	m.targets.init(m.registry)
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &gauges{cfg: cfg}, &endpointMetrics{groups: cfg.Clusters}, &mirrorMetrics{mirrors: cfg.Mirrors})
	return m
}

// CallStarted implements handler.Observer.
func (m *Metrics) CallStarted(r *handler.Record) handler.EndObserver {
	if r.Target != "" { // a part of a call, which counts itself
		return &m.targets
	}
	return m.series.start(r)
}

// Handler returns the handler of scrapes.
func (m *Metrics) Handler() http.Handler {
	answer := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m.cfg.Routes != nil {
			routes := m.cfg.Routes()
			m.series.keep(routes)
			m.targets.keep(routes)
		}
		answer.ServeHTTP(w, r)
	})
}

// gauges are the metrics that come from MetricsConfig.
type gauges struct{ cfg MetricsConfig }

var (
	connectionsDesc = prometheus.NewDesc("framegate_upstream_connections", "Open connections to endpoints.", []string{"endpoint"}, nil)
	endpointsAway   = prometheus.NewDesc("framegate_upstream_sent_away_total", "Connections to endpoints that were ended because the endpoint broke the bounds of HTTP/2.", []string{"reason"}, nil)
	retriesDesc     = prometheus.NewDesc("framegate_retries_active", "Further attempts of calls that wait for an answer, of routes that retry or hedge.", []string{"route"}, nil)
	revisionDesc    = prometheus.NewDesc("framegate_config_revision", "Revision of etcd whose routes and services are in force.", nil, nil)
	ageDesc         = prometheus.NewDesc("framegate_config_age_seconds", "Time since the configuration was last known to be up to date; absent if it never was.", nil, nil)
	staleDesc       = prometheus.NewDesc("framegate_config_stale", "1 while the source of the configuration cannot be reached.", nil, nil)
	rejectedDesc    = prometheus.NewDesc("framegate_config_rejected_documents", "Documents that are wrong and not in force.", nil, nil)
	rejectionsDesc  = prometheus.NewDesc("framegate_config_rejections_total", "Documents found wrong.", nil, nil)
	snapshotAge     = prometheus.NewDesc("framegate_snapshot_age_seconds", "Time since the snapshot of the configuration was last written; absent if it never was.", nil, nil)
	snapshotFailed  = prometheus.NewDesc("framegate_snapshot_failures_total", "Times that the snapshot of the configuration could not be written.", nil, nil)
	keptDesc        = prometheus.NewDesc("framegate_instances_kept", "Instances of services that vanished without deregistering and are kept (services.keep_on_loss).", nil, nil)
	watchesDesc     = prometheus.NewDesc("framegate_health_watches", "Streams of Watch that framegate's own health service answers (limits.max_health_watches).", nil, nil)
	watchesRefused  = prometheus.NewDesc("framegate_health_watches_refused_total", "Streams of Watch that were refused since there were as many as there may be.", nil, nil)
	everKeptDesc    = prometheus.NewDesc("framegate_instances_kept_total", "Instances of services that were kept after they vanished.", nil, nil)
	lookupsDesc     = prometheus.NewDesc("framegate_dns_lookups_total", "Look-ups of names of endpoints, by result: answered, absent (there is no address) or failed (the last addresses stay).", []string{"result"}, nil)
	drainingDesc    = prometheus.NewDesc("framegate_draining", "1 while the server drains.", nil, nil)
	connsDesc       = prometheus.NewDesc("framegate_listener_connections", "Open connections of clients.", []string{"listener"}, nil)
	callsDesc       = prometheus.NewDesc("framegate_listener_calls", "Calls under way.", []string{"listener"}, nil)
	connsRefused    = prometheus.NewDesc("framegate_listener_refused_connections_total", "Connections closed because there were max_connections.", []string{"listener"}, nil)
	callsRefused    = prometheus.NewDesc("framegate_listener_refused_calls_total", "Calls refused because there were max_calls, or max_concurrent_streams on their connection.", []string{"listener"}, nil)
	sentAwayDesc    = prometheus.NewDesc("framegate_listener_sent_away_total", "Clients whose connection was ended because they broke the bounds of HTTP/2.", []string{"listener", "reason"}, nil)
	decodedDesc     = prometheus.NewDesc("framegate_decoded_bytes", "Memory that messages take which are decoded or held whole.", nil, nil)
	decodedMaxDesc  = prometheus.NewDesc("framegate_decoded_bytes_limit", "limits.max_decoded_bytes.", nil, nil)
	decodedWaitDesc = prometheus.NewDesc("framegate_decoded_waiting", "Messages that wait for that memory.", nil, nil)
	logDroppedDesc  = prometheus.NewDesc("framegate_access_log_dropped_total", "Calls left out of the access log because its writer was too slow or failed.", nil, nil)
)

// Describe implements prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{connectionsDesc, endpointsAway, retriesDesc, revisionDesc, ageDesc, staleDesc, rejectedDesc, rejectionsDesc, keptDesc, everKeptDesc, watchesDesc, watchesRefused, snapshotAge, snapshotFailed, logDroppedDesc, lookupsDesc, drainingDesc, connsDesc, callsDesc, connsRefused, callsRefused, sentAwayDesc, decodedDesc, decodedMaxDesc, decodedWaitDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) { collect(ch, d, prometheus.GaugeValue, v) }
	counter := func(d *prometheus.Desc, v float64) { collect(ch, d, prometheus.CounterValue, v) }
	if g.cfg.Connections != nil {
		open := map[string]int{}
		for endpoint, n := range g.cfg.Connections() {
			open[labelValue(endpoint)] += n
		}
		for endpoint, n := range open {
			collect(ch, connectionsDesc, prometheus.GaugeValue, float64(n), endpoint)
		}
	}
	if g.cfg.SentAway != nil {
		for reason, n := range g.cfg.SentAway() {
			collect(ch, endpointsAway, prometheus.CounterValue, float64(n), reason)
		}
	}
	if g.cfg.Loads != nil {
		retries := map[string]int{}
		for _, l := range g.cfg.Loads() {
			if l.Budget {
				retries[labelValue(l.Route)] += l.Retries
			}
		}
		for route, n := range retries {
			collect(ch, retriesDesc, prometheus.GaugeValue, float64(n), route)
		}
	}
	if g.cfg.Config != nil {
		c := g.cfg.Config()
		gauge(revisionDesc, float64(c.Revision))
		if c.Age >= 0 {
			gauge(ageDesc, c.Age.Seconds())
		}
		stale := 0.0
		if c.Stale {
			stale = 1
		}
		gauge(staleDesc, stale)
		gauge(rejectedDesc, float64(c.Rejected))
		counter(rejectionsDesc, float64(c.Rejections))
		if c.SnapshotAge >= 0 {
			gauge(snapshotAge, c.SnapshotAge.Seconds())
		}
		counter(snapshotFailed, float64(c.SnapshotFailures))
		gauge(keptDesc, float64(c.Kept))
		counter(everKeptDesc, float64(c.EverKept))
	}
	if g.cfg.AccessLogDropped != nil {
		counter(logDroppedDesc, float64(g.cfg.AccessLogDropped()))
	}
	if g.cfg.Lookups != nil {
		answered, absent, failed := g.cfg.Lookups()
		for result, n := range map[string]uint64{"answered": answered, "absent": absent, "failed": failed} {
			collect(ch, lookupsDesc, prometheus.CounterValue, float64(n), result)
		}
	}
	if g.cfg.Draining != nil {
		draining := 0.0
		if g.cfg.Draining() {
			draining = 1
		}
		gauge(drainingDesc, draining)
	}
	if g.cfg.HealthWatches != nil {
		now, refused := g.cfg.HealthWatches()
		gauge(watchesDesc, float64(now))
		counter(watchesRefused, float64(refused))
	}
	if g.cfg.Decoding != nil {
		d := g.cfg.Decoding()
		gauge(decodedDesc, float64(d.Used))
		gauge(decodedMaxDesc, float64(d.Bytes))
		gauge(decodedWaitDesc, float64(d.Waiting))
	}
	if g.cfg.Listeners != nil {
		for _, l := range g.cfg.Listeners() {
			l.collect(ch)
		}
	}
}

func (l *ListenerStats) collect(ch chan<- prometheus.Metric) {
	collect(ch, connsDesc, prometheus.GaugeValue, float64(l.Connections), l.Name)
	collect(ch, callsDesc, prometheus.GaugeValue, float64(l.Calls), l.Name)
	collect(ch, connsRefused, prometheus.CounterValue, float64(l.RefusedConnections), l.Name)
	collect(ch, callsRefused, prometheus.CounterValue, float64(l.RefusedCalls), l.Name)
	for reason, n := range l.SentAway {
		collect(ch, sentAwayDesc, prometheus.CounterValue, float64(n), l.Name, reason)
	}
}

// collect sends a metric to ch. It leaves out a metric that is invalid, because prometheus.MustNewConstMetric would panic in
// a goroutine of client_golang and end the process.
func collect(ch chan<- prometheus.Metric, d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
	if m, err := prometheus.NewConstMetric(d, t, v, labels...); err == nil {
		ch <- m
	}
}
