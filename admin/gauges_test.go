package admin

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/mirror"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/resolver/cluster"
)

func TestMetrics_OfTheProcess(t *testing.T) {
	m := NewMetrics(MetricsConfig{
		Connections: func() map[string]int { return map[string]int{"127.0.0.1:1": 2, "unix:/x": 1} },
		Config: func() ConfigStats {
			return ConfigStats{Revision: 42, Age: 1500 * time.Millisecond, Stale: true, Rejected: 3, Rejections: 7, SnapshotAge: 90 * time.Second, SnapshotFailures: 4, Kept: 4, EverKept: 5}
		},
		AccessLogDropped: func() int64 { return 9 },
		Lookups:          func() (answered, absent, failed uint64) { return 5, 6, 7 },
		Loads: func() []cluster.RouteLoad {
			return []cluster.RouteLoad{
				{Source: "etcd", Route: "a", Budget: true, Retries: 2}, {Source: "file", Route: "a", Budget: true, Retries: 3}, {Route: "b", Calls: 4},
			}
		},
	})
	s := scrapeOf(t, m)
	require.EqualValues(t, 5, s.value("framegate_retries_active", "route", "a"), "a route of two sources is one")
	require.NotContains(t, s, "framegate_retries_active{route=\"b\"}", "it has no budget")
	for name, want := range map[string]float64{
		"framegate_config_revision":           42,
		"framegate_config_age_seconds":        1.5,
		"framegate_config_stale":              1,
		"framegate_config_rejected_documents": 3,
		"framegate_config_rejections_total":   7,
		"framegate_snapshot_age_seconds":      90,
		"framegate_snapshot_failures_total":   4,
		"framegate_access_log_dropped_total":  9,
		"framegate_instances_kept":            4,
		"framegate_instances_kept_total":      5,
	} {
		require.Equal(t, want, s.value(name), name)
	}
	for result, want := range map[string]int{"answered": 5, "absent": 6, "failed": 7} {
		require.EqualValues(t, want, s.value("framegate_dns_lookups_total", "result", result))
	}
	require.EqualValues(t, 2, s.value("framegate_upstream_connections", "endpoint", "127.0.0.1:1"))
	require.EqualValues(t, 1, s.value("framegate_upstream_connections", "endpoint", "unix:/x"))
	require.Positive(t, s.value("go_goroutines"))
	require.Positive(t, s.value("process_open_fds"))

	require.NotContains(t, scrapeOf(t, NewMetrics(MetricsConfig{})), "framegate_config_stale")
	s = scrapeOf(t, NewMetrics(MetricsConfig{Config: func() ConfigStats { return ConfigStats{Age: -1, Stale: true, SnapshotAge: -1} }}))
	require.EqualValues(t, 1, s.value("framegate_config_stale"))
	require.NotContains(t, s, "framegate_config_age_seconds", "it never was up to date")
	require.NotContains(t, s, "framegate_snapshot_age_seconds", "it never was written")
}

func TestMetrics_OfListenersAndDraining(t *testing.T) {
	draining := false
	m := NewMetrics(MetricsConfig{
		Draining: func() bool { return draining },
		Listeners: func() []ListenerStats {
			return []ListenerStats{
				{Name: "main", Connections: 3, Calls: 4, RefusedConnections: 5, RefusedCalls: 6, SentAway: map[string]int64{"rapid_reset": 7, "ping_flood": 0}},
				{Name: "edge"},
			}
		},
	})
	s := scrapeOf(t, m)
	require.EqualValues(t, 0, s.value("framegate_draining"))
	for name, want := range map[string]float64{
		"framegate_listener_connections":               3,
		"framegate_listener_calls":                     4,
		"framegate_listener_refused_connections_total": 5,
		"framegate_listener_refused_calls_total":       6,
	} {
		require.Equal(t, want, s.value(name, "listener", "main"), name)
		require.Zero(t, s.value(name, "listener", "edge"), name)
	}
	require.EqualValues(t, 7, s.value("framegate_listener_sent_away_total", "listener", "main", "reason", "rapid_reset"))
	require.Len(t, s["framegate_listener_sent_away_total"].Metric, 2)
	draining = true
	require.EqualValues(t, 1, scrapeOf(t, m).value("framegate_draining"))
}

func TestMetrics_OfEndpointsThatWereSentAway(t *testing.T) {
	s := scrapeOf(t, NewMetrics(MetricsConfig{SentAway: func() map[string]int64 { return map[string]int64{"ping_flood": 3, "protocol": 0} }}))
	require.EqualValues(t, 3, s.value("framegate_upstream_sent_away_total", "reason", "ping_flood"))
	require.Zero(t, s.value("framegate_upstream_sent_away_total", "reason", "protocol"))
}

func TestMetrics_MemoryOfMessages(t *testing.T) {
	s := scrapeOf(t, NewMetrics(MetricsConfig{Decoding: func() budget.Stats { return budget.Stats{Bytes: 100, Used: 60, Waiting: 2} }}))
	for name, want := range map[string]float64{"framegate_decoded_bytes": 60, "framegate_decoded_bytes_limit": 100, "framegate_decoded_waiting": 2} {
		require.Equal(t, want, s.value(name), name)
	}
}

func TestMetrics_HaveHelpAndNamesAsPrometheusWantsThem(t *testing.T) {
	m := NewMetrics(MetricsConfig{
		Connections: func() map[string]int { return map[string]int{"127.0.0.1:1": 2} },
		Clusters: func() ([]cluster.State, []cluster.EndpointState) {
			return []cluster.State{{ID: cluster.ID{Service: "s"}}}, nil
		},
		Config: func() ConfigStats { return ConfigStats{} }, AccessLogDropped: func() int64 { return 0 },
		Draining: func() bool { return false }, HealthWatches: func() (int, int64) { return 0, 0 },
		Listeners: func() []ListenerStats { return []ListenerStats{{Name: "main", SentAway: map[string]int64{"r": 1}}} },
		SentAway:  func() map[string]int64 { return map[string]int64{"r": 1} },
		Loads:     func() []cluster.RouteLoad { return []cluster.RouteLoad{{Route: "r", Budget: true}} },
		Decoding:  func() budget.Stats { return budget.Stats{} },
		Lookups:   func() (answered, absent, failed uint64) { return 1, 0, 0 },
		Mirrors: func() []mirror.Status {
			return []mirror.Status{{Route: "r", Name: "m", Codes: map[codes.Code]int64{0: 1}, Dropped: map[mirror.Dropped]int64{mirror.DroppedFull: 1}, Compared: map[mirror.Result]int64{mirror.Same: 1}}}
		},
	})
	part := record("r", "b", "*")
	part.Target = "node"
	end(m, part)
	r := record("r", "b", "*")
	r.Reason, r.Limit, r.Attempts.Retries, r.Struct = local.ReasonOverloaded, "limits.concurrent", 1, &structmode.Stats{}
	end(m, r)
	described := make(chan *prometheus.Desc, 1000)
	m.registry.Describe(described)
	close(described)
	fullName := regexp.MustCompile(`fqName: "(framegate_\w+)"`)
	s := scrapeOf(t, m)
	for d := range described {
		match := fullName.FindStringSubmatch(d.String())
		if match == nil {
			continue // of the process
		}
		name := match[1]
		family := s[name]
		require.NotNil(t, family, "%s is not in the scrape", name)
		require.True(t, strings.HasSuffix(family.GetHelp(), "."), "%s: %q", name, family.GetHelp())
		require.Equal(t, strings.HasSuffix(name, "_total"), family.GetType() == dto.MetricType_COUNTER, name)
	}
}
