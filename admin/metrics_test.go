package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/handler/structmode/rule"
	"github.com/framegate/framegate/resolver/cluster"
)

// scrape is what a scrape answered, by name of the metric.
type scrape map[string]*dto.MetricFamily

func scrapeOf(t testing.TB, m *Metrics) scrape {
	t.Helper()
	r := httptest.NewRecorder()
	m.Handler().ServeHTTP(r, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, r.Code)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(r.Body)
	require.NoError(t, err)
	return families
}

// get returns the metric of that name and labels, given as name, value, name, value; nil if there is none.
func (s scrape) get(name string, labels ...string) *dto.Metric {
	for _, m := range s[name].GetMetric() {
		got := map[string]string{}
		for _, l := range m.Label {
			got[l.GetName()] = l.GetValue()
		}
		same := len(got) == len(labels)/2
		for i := 0; i < len(labels); i += 2 {
			v, ok := got[labels[i]]
			same = same && ok && v == labels[i+1]
		}
		if same {
			return m
		}
	}
	return nil
}

// value returns the value of a counter or gauge, and -1 if there is none.
func (s scrape) value(name string, labels ...string) float64 {
	m := s.get(name, labels...)
	switch {
	case m == nil:
		return -1
	case m.Counter != nil:
		return m.Counter.GetValue()
	}
	return m.Gauge.GetValue()
}

// total is the sum of a counter over all its labels.
func (s scrape) total(name string) (sum float64) {
	for _, m := range s[name].GetMetric() {
		sum += m.Counter.GetValue()
	}
	return sum
}

func TestMetrics_OfRealCalls(t *testing.T) {
	m := NewMetrics(MetricsConfig{})
	backend := handlertest.Backend(t, func(s grpc.ServerStream) error {
		if method, _ := grpc.MethodFromServerStream(s); method == "/echo.Echo/Missing" {
			return status.Error(grpccodes.NotFound, "no")
		}
		return handlertest.Echo(s)
	})
	_, cc := handlertest.Start(t, handler.Config{
		Observers: []handler.Observer{m},
		Router: handlertest.RouterFunc(func(method string) (cluster.Target, bool) {
			to := cluster.Target{Route: "echo", Pattern: "/echo.Echo/*", Backend: "stable", Address: backend}
			switch method {
			case "/none/m":
				return cluster.Target{}, false
			case "/echo.Echo/Say":
				to.Pattern = method
			case "/echo.Echo/Off":
				to.Address, to.Backend = "", ""
			}
			return to, true
		}),
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for range 3 {
		_, err := handlertest.Unary(ctx, cc, "/echo.Echo/Say", []byte("hello"))
		require.NoError(t, err)
	}
	for _, method := range []string{"/echo.Echo/Off", "/none/m", "/none/m"} {
		_, err := handlertest.Unary(ctx, cc, method, nil)
		require.Error(t, err)
	}
	missing, err := handlertest.Open(ctx, cc, "/echo.Echo/Missing") // without a message
	require.NoError(t, err)
	require.NoError(t, missing.CloseSend())
	require.Error(t, missing.RecvMsg(new([]byte)))
	long, err := handlertest.Open(ctx, cc, "/echo.Echo/Chat")
	require.NoError(t, err)
	msg := []byte("hello")
	require.NoError(t, long.SendMsg(&msg))
	require.NoError(t, long.RecvMsg(&msg))

	active := []string{"route", "echo", "backend", "stable"}
	calls := func(s scrape, route, backend, method, code string) float64 {
		return s.value("framegate_calls_total", "route", route, "backend", backend, "method", method, "code", code)
	}
	var s scrape
	require.Eventually(t, func() bool {
		s = scrapeOf(t, m)
		return s.value("framegate_active_calls", active...) == 1 && s.value("framegate_active_calls", "route", "", "backend", "") == 0 &&
			s.value("framegate_active_calls", "route", "echo", "backend", "") == 0 && s.total("framegate_calls_total") == 7
	}, 30*time.Second, 10*time.Millisecond)
	require.EqualValues(t, 3, calls(s, "echo", "stable", "/echo.Echo/Say", "OK"))
	require.EqualValues(t, 1, calls(s, "echo", "stable", "/echo.Echo/*", "NOT_FOUND"))
	require.EqualValues(t, 1, calls(s, "echo", "", "/echo.Echo/*", "UNAVAILABLE"))
	require.EqualValues(t, 2, calls(s, "", "", "", "UNIMPLEMENTED"))
	require.Len(t, s["framegate_calls_total"].Metric, 4)
	require.EqualValues(t, 2, s.value("framegate_local_errors_total", "route", "", "backend", "", "reason", "no_route"))
	require.EqualValues(t, 1, s.value("framegate_local_errors_total", "route", "echo", "backend", "", "reason", "no_endpoint"))
	require.Len(t, s["framegate_local_errors_total"].Metric, 2)

	for _, name := range []string{"framegate_call_duration_seconds", "framegate_call_first_byte_seconds"} {
		h := s.get(name, active...).GetHistogram()
		require.EqualValues(t, 4, h.GetSampleCount(), name)
		require.Positive(t, h.GetSampleSum(), name)
		require.Less(t, h.GetSampleSum(), 20.0, name)
	}
	require.EqualValues(t, 0, s.get("framegate_call_first_byte_seconds", "route", "", "backend", "").GetHistogram().GetSampleCount())

	require.NoError(t, long.CloseSend())
	require.Error(t, long.RecvMsg(&msg)) // io.EOF
	require.Eventually(t, func() bool {
		s = scrapeOf(t, m)
		return s.value("framegate_active_calls", active...) == 0 && s.total("framegate_calls_total") == 8
	}, 30*time.Second, 10*time.Millisecond)
	require.EqualValues(t, 1, calls(s, "echo", "stable", "/echo.Echo/*", "OK"))
	for _, direction := range []string{"request", "response"} {
		labels := append(active[:4:4], "direction", direction)
		require.EqualValues(t, 4, s.value("framegate_messages_total", labels...), direction)
		require.EqualValues(t, 4*(5+len("hello")), s.value("framegate_bytes_total", labels...), direction)
	}
}

func record(route, backend, pattern string) *handler.Record {
	return &handler.Record{Route: route, Backend: backend, Pattern: pattern, Duration: time.Millisecond}
}

func end(m *Metrics, r *handler.Record) { m.CallStarted(r).CallEnded(r) }

func TestMetrics_SeriesAreBoundedWhateverClientsSend(t *testing.T) {
	m := NewMetrics(MetricsConfig{})
	for i := range 10_000 {
		r := record("all", "b", "*")
		r.Method, r.Endpoint, r.Code = fmt.Sprintf("/s/Random%d", i), fmt.Sprint(i), codes.Code(17+i)
		end(m, r)
	}
	s := scrapeOf(t, m)
	require.Len(t, s["framegate_calls_total"].Metric, 1)
	require.EqualValues(t, 10_000, s.value("framegate_calls_total", "route", "all", "backend", "b", "method", "*", "code", "other"))
	for _, name := range []string{"framegate_active_calls", "framegate_call_duration_seconds"} {
		require.Len(t, s[name].Metric, 1, name)
	}
}

func TestMetrics_CountWhatStructModeDid(t *testing.T) {
	routes := map[string]RouteNames{"shop": {Backends: []string{"main"}, Patterns: []string{"*"}}}
	m := NewMetrics(MetricsConfig{Routes: func() map[string]RouteNames { return routes }})
	r := record("shop", "main", "*")
	r.Struct = &structmode.Stats{DecodeErrors: 2, DecodeTime: time.Second}
	r.Struct.Hits[rule.ActionDrop], r.Struct.Hits[rule.ActionSet] = 3, 1
	end(m, r)
	end(m, r)
	end(m, record("frames", "main", "*"))
	s := scrapeOf(t, m)
	labels := []string{"route", "shop", "backend", "main"}
	for action, n := range map[string]int{"drop": 6, "set": 2, "reject": 0} {
		require.EqualValues(t, n, s.value("framegate_rule_hits_total", append(labels[:4:4], "action", action)...), action)
	}
	require.EqualValues(t, 4, s.value("framegate_decode_errors_total", labels...))
	require.EqualValues(t, 2, s.value("framegate_decode_seconds_total", labels...))
	structMetrics := []string{"framegate_rule_hits_total", "framegate_decode_errors_total", "framegate_decode_seconds_total"}
	require.Len(t, s["framegate_decode_errors_total"].Metric, 1, "frame mode has none")

	delete(routes, "shop")
	s = scrapeOf(t, m)
	for _, name := range structMetrics {
		require.NotContains(t, s, name, "a route that is gone")
	}
}

// routeMetrics are the names of the metrics with a label route.
var routeMetrics = []string{"framegate_calls_total", "framegate_call_duration_seconds", "framegate_call_first_byte_seconds",
	"framegate_messages_total", "framegate_bytes_total", "framegate_active_calls", "framegate_local_errors_total",
	"framegate_overloaded_total", "framegate_retries_total", "framegate_retries_over_budget_total"}

// routes returns the values of the label route.
func (s scrape) routes(name string) map[string]bool {
	all := map[string]bool{}
	for _, m := range s[name].GetMetric() {
		for _, l := range m.Label {
			if l.GetName() == "route" {
				all[l.GetValue()] = true
			}
		}
	}
	return all
}

func TestMetrics_DropsRoutesThatAreGone(t *testing.T) {
	var live sync.Map
	m := NewMetrics(MetricsConfig{Routes: func() map[string]RouteNames {
		names := map[string]RouteNames{}
		live.Range(func(k, _ any) bool {
			names[k.(string)] = RouteNames{Backends: []string{"x", "y"}, Patterns: []string{"*", "/a/b"}}
			return true
		})
		return names
	}})
	call := func(route string) {
		for _, pattern := range []string{"*", "/a/b"} {
			for _, backend := range []string{"x", "y"} {
				r := record(route, backend, pattern)
				r.Code, r.Reason, r.Limit = codes.Unavailable, local.ReasonConnectFailed, "limits.concurrent"
				r.Attempts = handler.Attempts{Retries: 1, OverBudget: true}
				end(m, r)
			}
		}
	}
	live.Store("kept", nil)
	call("kept")
	call("gone")
	call("") // calls without a route
	long := record("busy", "x", "*")
	ender := m.CallStarted(long)
	end(m, record("busy", "x", "/a/b"))
	end(m, record("busy", "x", "*"))

	s := scrapeOf(t, m)
	for _, name := range routeMetrics {
		want := map[string]bool{"": true, "kept": true, "busy": true}
		switch name {
		case "framegate_local_errors_total", "framegate_overloaded_total", "framegate_retries_total", "framegate_retries_over_budget_total":
			delete(want, "busy")
		}
		require.Equal(t, want, s.routes(name), name)
	}
	require.EqualValues(t, 1, s.value("framegate_active_calls", "route", "busy", "backend", "x"))
	ender.CallEnded(long)
	s = scrapeOf(t, m)
	require.NotContains(t, s.routes("framegate_calls_total"), "busy")

	live.Store("gone", nil) // it is there again
	call("gone")
	s = scrapeOf(t, m)
	require.EqualValues(t, 1, s.value("framegate_calls_total", "route", "gone", "backend", "x", "method", "*", "code", "UNAVAILABLE"))
	require.EqualValues(t, 2, s.value("framegate_local_errors_total", "route", "gone", "backend", "x", "reason", "connect_failed"))
}

func TestMetrics_CallsMeetARouteThatComesAndGoes(t *testing.T) {
	var there atomic.Bool
	m := NewMetrics(MetricsConfig{Routes: func() map[string]RouteNames {
		if there.Load() {
			return map[string]RouteNames{"r": {Backends: []string{"b"}, Patterns: []string{"*"}}}
		}
		return nil
	}})
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					r := record("r", "b", "*")
					r.Code, r.Reason, r.Limit, r.Attempts.Transparent = codes.Unavailable, local.ReasonTimeout, "limits.pending", 1
					end(m, r)
				}
			}
		})
	}
	for i := range 30 {
		there.Store(i%2 == 0)
		active := scrapeOf(t, m).get("framegate_active_calls", "route", "r", "backend", "b")
		require.GreaterOrEqual(t, active.GetGauge().GetValue(), 0.0)
	}
	close(stop)
	wg.Wait()
	there.Store(false)
	s := scrapeOf(t, m)
	for _, name := range routeMetrics {
		require.Empty(t, s[name].GetMetric(), name)
	}
	there.Store(true)
	end(m, record("r", "b", "*"))
	s = scrapeOf(t, m)
	require.EqualValues(t, 1, s.value("framegate_calls_total", "route", "r", "backend", "b", "method", "*", "code", "OK"))
	require.EqualValues(t, 0, s.value("framegate_active_calls", "route", "r", "backend", "b"))
}

func TestMetrics_CallAllocatesNothing(t *testing.T) {
	m := NewMetrics(MetricsConfig{})
	good, bad := record("r", "b", "*"), record("", "", "")
	bad.Code, bad.Reason = codes.Unimplemented, local.ReasonNoRoute
	tried := record("r", "b", "*")
	tried.Code, tried.Reason, tried.Limit = codes.ResourceExhausted, local.ReasonOverloaded, "limits.concurrent"
	tried.Attempts = handler.Attempts{Transparent: 1, Retries: 2, OverBudget: true}
	all := []*handler.Record{good, bad, tried}
	for _, r := range all {
		end(m, r)
	}
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		for _, r := range all {
			end(m, r)
		}
	}))
}

func BenchmarkMetrics(b *testing.B) {
	for _, routes := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("%d routes", routes), func(b *testing.B) {
			b.ReportAllocs()
			m := NewMetrics(MetricsConfig{})
			records := make([]*handler.Record, routes)
			for i := range records {
				r := record(fmt.Sprintf("route-%d", i), "stable", "/echo.Echo/*")
				r.FirstByte = time.Millisecond
				r.RequestMessages, r.RequestBytes, r.ResponseMessages, r.ResponseBytes = 1, 100, 1, 100
				records[i] = r
				end(m, r)
			}
			for i := 0; b.Loop(); i++ {
				end(m, records[i%routes])
			}
		})
	}
}

func BenchmarkScrape10000Routes(b *testing.B) {
	live := map[string]RouteNames{}
	m := NewMetrics(MetricsConfig{Routes: func() map[string]RouteNames { return live }})
	for i := range 10_000 {
		r := record(fmt.Sprintf("route-%d", i), "stable", "*")
		live[r.Route] = RouteNames{Backends: []string{r.Backend}, Patterns: []string{r.Pattern}}
		end(m, r)
	}
	for b.Loop() {
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		if w.Code != http.StatusOK {
			b.Fatal(errors.New(w.Body.String()))
		}
	}
}
