package admin

import (
	"fmt"
	"testing"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/local"
)

func TestMetrics_DropsWhatARouteNamesNoMore(t *testing.T) {
	names := RouteNames{Backends: []string{"x"}, Patterns: []string{"*", "/a/b"}}
	m := NewMetrics(MetricsConfig{Routes: func() map[string]RouteNames { return map[string]RouteNames{"r": names} }})
	fail := func(backend, pattern string) *handler.Record {
		r := record("r", backend, pattern)
		r.Code, r.Reason = codes.Unavailable, local.ReasonConnectFailed
		return r
	}
	series := func(s scrape, name string) (all []string) {
		for _, metric := range s[name].GetMetric() {
			labels := map[string]string{}
			for _, l := range metric.Label {
				labels[l.GetName()] = l.GetValue()
			}
			all = append(all, labels["backend"]+" "+labels["method"])
		}
		return all
	}
	const calls, errs, durations = "framegate_calls_total", "framegate_local_errors_total", "framegate_call_duration_seconds"
	for _, backend := range []string{"x", ""} {
		end(m, fail(backend, "*"))
		end(m, fail(backend, "/a/b"))
	}
	require.ElementsMatch(t, []string{"x *", "x /a/b", " *", " /a/b"}, series(scrapeOf(t, m), calls))

	names.Patterns = []string{"*"}
	s := scrapeOf(t, m)
	require.ElementsMatch(t, []string{"x *", " *"}, series(s, calls))
	require.EqualValues(t, 2, s.value(errs, "route", "r", "backend", "x", "reason", "connect_failed"), "its other pattern is still there")

	for i := range 20 { // a backend for each version that is rolled out
		names.Backends = []string{fmt.Sprintf("v%d", i)}
		busy := m.CallStarted(fail("x", "*"))
		end(m, fail(names.Backends[0], "*"))
		require.ElementsMatch(t, []string{"x *", names.Backends[0] + " *", " *"}, series(scrapeOf(t, m), calls), "a call is under way to x")
		busy.CallEnded(fail("x", "*"))
		s = scrapeOf(t, m)
		require.ElementsMatch(t, []string{names.Backends[0] + " *", " *"}, series(s, calls))
		for _, name := range []string{errs, durations} {
			require.ElementsMatch(t, []string{names.Backends[0] + " ", " "}, series(s, name), name)
		}
		names.Backends = []string{"x"}
		end(m, fail("x", "*"))
	}
}

// A name in a route or the path of a Unix socket may hold any bytes. client_golang panics at what is not UTF-8, and
// where it collects, nobody can recover that.
func TestMetrics_NamesThatAreNotUTF8(t *testing.T) {
	m := NewMetrics(MetricsConfig{
		Connections: func() map[string]int { return map[string]int{"unix:/tmp/\xff": 1, "unix:/tmp/\xfe": 2} },
		Routes: func() map[string]RouteNames {
			return map[string]RouteNames{"r": {Backends: []string{"b\xff"}, Patterns: []string{"/s/\xff"}}}
		},
	})
	r := record("r", "b\xff", "/s/\xff")
	r.Code, r.Reason = codes.Unavailable, local.ReasonConnectFailed
	end(m, r)
	end(m, r)
	for range 2 {
		s := scrapeOf(t, m)
		require.EqualValues(t, 3, s.value("framegate_upstream_connections", "endpoint", "unix:/tmp/\uFFFD"))
		require.EqualValues(t, 2, s.value("framegate_calls_total", "route", "r", "backend", "b\uFFFD", "method", "/s/\uFFFD", "code", "UNAVAILABLE"))
		require.EqualValues(t, 0, s.value("framegate_active_calls", "route", "r", "backend", "b\uFFFD"))
	}
}
