package admin

import (
	"hash/maphash"
	"maps"
	"math"
	"sync"
	"sync/atomic"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/local"
)

// seriesKey has the labels that tell one series from another.
type seriesKey struct{ route, backend, pattern string }

// series counts the calls of one seriesKey. It is a handler.EndObserver.
type series struct {
	set    *seriesSet
	key    seriesKey
	active atomic.Int64                       // calls under way; negative once the series is retired
	codes  [codeSlots]atomic.Pointer[counter] // by code; each made when it is first needed
	*traffic
}

// retired is the value of active in a dropped series. It is so low that active stays negative whatever calls add, which tells
// start to look the series up again.
const retired = math.MinInt64 / 2

// traffic has the metrics of a route and backend, which all their series share.
type traffic struct {
	series int               // number of series that share it; guarded by the set's mu
	errors *labelledCounters // by reason
	limits *labelledCounters // by limit

	duration, firstByte             prometheus.Observer
	structs                         atomic.Pointer[structTraffic] // made when the first call in struct mode ends
	retries                         atomic.Pointer[retryTraffic]  // made when the first call ends that was tried again
	requestMessages, requestBytes   prometheus.Counter
	responseMessages, responseBytes prometheus.Counter
}

// counter is a prometheus.Counter that an atomic.Pointer can hold.
type counter struct{ prometheus.Counter }

// codeSlots is the number of gRPC's codes plus one for all others.
const codeSlots = 18

// codeSlot returns the index of a code in an array of codeSlots.
func codeSlot(c codes.Code) uint64 { return min(uint64(c), codeSlots-1) }

// CallEnded implements handler.EndObserver.
func (s *series) CallEnded(r *handler.Record) {
	s.code(r).Inc()
	s.duration.Observe(r.Duration.Seconds())
	if r.FirstByte > 0 {
		s.firstByte.Observe(r.FirstByte.Seconds())
	}
	s.requestMessages.Add(float64(r.RequestMessages))
	s.requestBytes.Add(float64(r.RequestBytes))
	s.responseMessages.Add(float64(r.ResponseMessages))
	s.responseBytes.Add(float64(r.ResponseBytes))
	if r.Reason != "" {
		s.errors.of(string(r.Reason)).Inc()
	}
	if r.Limit != "" {
		s.limits.of(r.Limit).Inc()
	}
	if r.Attempts != (handler.Attempts{}) {
		s.retryTraffic().add(r)
	}
	if r.Struct != nil {
		s.structTraffic().add(r.Struct)
	}
	s.active.Add(-1) // last: the series may then be dropped
}

func (s *series) code(r *handler.Record) *counter {
	slot := &s.codes[codeSlot(r.Code)]
	c := slot.Load()
	if c == nil {
		c = &counter{s.set.calls.WithLabelValues(s.key.route, s.key.backend, s.key.pattern, local.CodeName(r.Code))}
		slot.Store(c) // two calls may both get here: they store the same counter
	}
	return c
}

func (s *series) structTraffic() *structTraffic {
	t := s.structs.Load()
	if t == nil {
		t = s.set.structs.of(s.key.route, s.key.backend)
		s.structs.Store(t) // two calls may both get here: they store the same counters
	}
	return t
}

func (s *series) retryTraffic() *retryTraffic {
	if t := s.retries.Load(); t != nil {
		return t
	}
	s.retries.CompareAndSwap(nil, s.set.retries.of(s.key.route, s.key.backend)) // another call may have stored one first
	return s.retries.Load()
}

// shards is the number of maps that the series are spread over, so that a new series copies a small map only.
const shards = 64

// recents is the length of seriesSet.recent.
const recents = 64

// seriesSet holds all series. A look-up takes no lock: the maps are never changed, but replaced by changed copies.
type seriesSet struct {
	calls       *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	firstByte   *prometheus.HistogramVec
	messages    *prometheus.CounterVec
	bytes       *prometheus.CounterVec
	localErrors *prometheus.CounterVec
	overloaded  *prometheus.CounterVec
	structs     structCounters
	retries     retryCounters

	seed   maphash.Seed
	maps   [shards]atomic.Pointer[map[seriesKey]*series]
	recent [recents]atomic.Pointer[series] // the series of late calls, by recentOf; each spares calls the look-up in maps

	mu       sync.Mutex // guards traffics, and is held to replace a map
	traffics map[[2]string]*traffic
}

// durationBuckets are the bounds of the histograms, in seconds.
var durationBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

func (set *seriesSet) init(registry prometheus.Registerer) {
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histograms := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: durationBuckets}, []string{"route", "backend"})
	}
	set.calls = counters("framegate_calls_total", "Calls that have ended, by gRPC status code. method is the pattern of the route that the call met.", "route", "backend", "method", "code")
	set.duration = histograms("framegate_call_duration_seconds", "Time from a call's headers to its end.")
	set.firstByte = histograms("framegate_call_first_byte_seconds", "Time from a call's headers to the first of the endpoint's answer.")
	set.messages = counters("framegate_messages_total", "Messages forwarded, at the end of their call.", "route", "backend", "direction")
	set.bytes = counters("framegate_bytes_total", "Bytes of gRPC frames forwarded (payload and 5 bytes a message), at the end of their call.", "route", "backend", "direction")
	set.localErrors = counters("framegate_local_errors_total", "Calls that framegate itself gave a status, by reason.", "route", "backend", "reason")
	set.overloaded = counters("framegate_overloaded_total", "Calls that were refused because they were over a limit, by the key of the limit: limits.* of the route, backends.limits.* of the backend, max_decoded_bytes, or when_full (the connections to the endpoint are full). Those over max_calls of a listener have framegate_listener_refused_calls_total.", "route", "backend", "limit")
	registry.MustRegister(set.calls, set.duration, set.firstByte, set.messages, set.bytes, set.localErrors, set.overloaded, activeCalls{set})
	set.structs.init(registry)
	set.retries.init(registry)
	set.seed = maphash.MakeSeed()
	set.traffics = map[[2]string]*traffic{}
	for i := range set.maps {
		set.maps[i].Store(&map[seriesKey]*series{})
	}
}

func (set *seriesSet) shard(k seriesKey) *atomic.Pointer[map[seriesKey]*series] {
	h := maphash.String(set.seed, k.route) + 3*maphash.String(set.seed, k.pattern)
	return &set.maps[h%shards]
}

// start returns the series of a call that starts, and counts the call as active. CallEnded takes it off again.
func (set *seriesSet) start(r *handler.Record) *series {
	k := seriesKey{r.Route, r.Backend, r.Pattern}
	recent := set.recentOf(&k)
	if s := recent.Load(); s != nil && s.key == k {
		if s.active.Add(1) > 0 {
			return s
		}
		s.active.Add(-1)
	}
	for {
		s := set.of(k)
		if s.active.Add(1) > 0 {
			recent.Store(s)
			return s
		}
		s.active.Add(-1)
		set.mu.Lock()   // wait until keep, which holds mu, has dropped the series
		set.mu.Unlock() //lint:ignore SA2001 see above
	}
}

// recentOf returns where the series with a key is if one of the last calls had it.
func (set *seriesSet) recentOf(k *seriesKey) *atomic.Pointer[series] {
	h := len(k.route) + 3*len(k.pattern) + 5*len(k.backend)
	for _, s := range [...]string{k.route, k.pattern, k.backend} {
		if n := len(s); n > 0 {
			h = 31*h + int(s[n-1]) + 7*int(s[n/2])
		}
	}
	return &set.recent[uint(h)%recents]
}

// of returns the series with a key, which it makes if there is none.
func (set *seriesSet) of(k seriesKey) *series {
	shard := set.shard(k)
	if s := (*shard.Load())[k]; s != nil {
		return s
	}
	k = seriesKey{labelValue(k.route), labelValue(k.backend), labelValue(k.pattern)}
	shard = set.shard(k)
	set.mu.Lock()
	defer set.mu.Unlock()
	old := *shard.Load()
	if s := old[k]; s != nil {
		return s
	}
	s := &series{set: set, key: k, traffic: set.trafficLocked(k.route, k.backend)}
	s.traffic.series++
	changed := maps.Clone(old)
	changed[k] = s
	shard.Store(&changed)
	return s
}

func (set *seriesSet) trafficLocked(route, backend string) *traffic {
	k := [2]string{route, backend}
	t := set.traffics[k]
	if t == nil {
		t = &traffic{
			errors:           newLabelledCounters(set.localErrors, route, backend),
			limits:           newLabelledCounters(set.overloaded, route, backend),
			duration:         set.duration.WithLabelValues(route, backend),
			firstByte:        set.firstByte.WithLabelValues(route, backend),
			requestMessages:  set.messages.WithLabelValues(route, backend, "request"),
			requestBytes:     set.bytes.WithLabelValues(route, backend, "request"),
			responseMessages: set.messages.WithLabelValues(route, backend, "response"),
			responseBytes:    set.bytes.WithLabelValues(route, backend, "response"),
		}
		set.traffics[k] = t
	}
	return t
}

// keep drops every series that has no call under way and whose labels do not occur in routes, the routes in force. The series
// of calls that got no route stay.
func (set *seriesSet) keep(routes map[string]RouteNames) {
	set.mu.Lock()
	defer set.mu.Unlock()
	for i := range set.maps {
		var left map[seriesKey]*series // a copy without the dropped series; nil until one is dropped
		for k, s := range *set.maps[i].Load() {
			names, inForce := routes[k.route]
			if k.route == "" || inForce && names.has(k.backend, k.pattern) || !s.active.CompareAndSwap(0, retired) {
				continue
			}
			if left == nil {
				left = maps.Clone(*set.maps[i].Load())
			}
			delete(left, k)
			set.dropLocked(s)
		}
		if left != nil {
			set.maps[i].Store(&left)
		}
	}
}

// dropLocked deletes the metrics of a retired series and, if it is the last of its route and backend, the metrics that these
// share.
func (set *seriesSet) dropLocked(s *series) {
	route, backend := s.key.route, s.key.backend
	for code := range s.codes {
		if s.codes[code].Load() != nil {
			set.calls.DeleteLabelValues(route, backend, s.key.pattern, local.CodeName(codes.Code(code)))
		}
	}
	if s.traffic.series--; s.traffic.series > 0 {
		return
	}
	s.errors.drop()
	s.limits.drop()
	if t := s.retries.Load(); t != nil {
		t.drop()
	}
	if s.structs.Load() != nil {
		set.structs.drop(route, backend)
	}
	set.duration.DeleteLabelValues(route, backend)
	set.firstByte.DeleteLabelValues(route, backend)
	for _, direction := range []string{"request", "response"} {
		set.messages.DeleteLabelValues(route, backend, direction)
		set.bytes.DeleteLabelValues(route, backend, direction)
	}
	delete(set.traffics, [2]string{route, backend})
}

// activeCalls is the gauge of calls under way.
type activeCalls struct{ set *seriesSet }

var activeDesc = prometheus.NewDesc("framegate_active_calls", "Calls under way.", []string{"route", "backend"}, nil)

// Describe implements prometheus.Collector.
func (activeCalls) Describe(ch chan<- *prometheus.Desc) { ch <- activeDesc }

// Collect implements prometheus.Collector.
func (a activeCalls) Collect(ch chan<- prometheus.Metric) {
	active := map[[2]string]int64{}
	for i := range a.set.maps {
		for k, s := range *a.set.maps[i].Load() {
			active[[2]string{k.route, k.backend}] += max(s.active.Load(), 0)
		}
	}
	for k, n := range active {
		collect(ch, activeDesc, prometheus.GaugeValue, float64(n), k[0], k[1])
	}
}
