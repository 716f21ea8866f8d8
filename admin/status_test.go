package admin

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestStatus_EndpointsConfigAndMetrics(t *testing.T) {
	c := startAPI(t, Config{
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
			_, _ = io.WriteString(w, "framegate_up 1\n")
		}),
		Control: Control{
			Endpoints: func() []EndpointStatus {
				return []EndpointStatus{{"unix:/tmp/b", 1, 2, ""}, {"127.0.0.1:9001", 3, 4, ""}}
			},
			Config: func() ([]byte, error) { return []byte(`{"admin":{"token":"hidden"}}`), nil },
		},
	})
	a := c.do("GET", "/v1/endpoints", "")
	require.JSONEq(t, `{"endpoints":[{"address":"127.0.0.1:9001","connections":3,"streams":4},{"address":"unix:/tmp/b","connections":1,"streams":2}],"groups":[]}`, a.body)
	require.Equal(t, "no-store", a.header.Get("Cache-Control"))
	require.JSONEq(t, `{"admin":{"token":"hidden"}}`, c.do("GET", "/v1/config", "").body)
	metrics := c.do("GET", "/metrics?name[]=x", "")
	require.Equal(t, "framegate_up 1\n", metrics.body)
}

func TestStatus_NoEndpointIsAnEmptyList(t *testing.T) {
	c := startAPI(t, Config{Control: Control{Endpoints: func() []EndpointStatus { return nil }}})
	require.JSONEq(t, `{"endpoints":[],"groups":[]}`, c.do("GET", "/v1/endpoints", "").body)
}

func TestPprof_OnlyWhenAskedFor(t *testing.T) {
	c := startAPI(t, Config{Pprof: true})
	require.Contains(t, c.do("GET", "/debug/pprof/", "").body, "goroutine")
	require.Contains(t, c.do("GET", "/debug/pprof/goroutine?debug=1", "").body, "goroutine profile:")
	require.Contains(t, c.do("GET", "/debug/pprof/cmdline", "").body, ".test")
	require.Contains(t, c.do("GET", "/debug/pprof/symbol", "").body, "num_symbols")
	heap := c.do("GET", "/debug/pprof/heap", "")
	requireProfile(t, heap.body)
	c.fails(404, reasonNotFound, "GET", "/debug/pprof/other", "")
	for _, bad := range []string{"0", "-1", "601", "1e9", "soon"} {
		c.fails(400, reasonBadParameter, "GET", "/debug/pprof/profile?seconds="+bad, "")
	}
	began := time.Now()
	cpu := c.do("GET", "/debug/pprof/profile?seconds=1", "")
	require.Equal(t, 200, cpu.code, cpu.body)
	require.GreaterOrEqual(t, time.Since(began), time.Second)
	requireProfile(t, cpu.body)
	trace := c.do("GET", "/debug/pprof/trace?seconds=1", "")
	require.True(t, strings.HasPrefix(trace.body, "go 1."), "a trace")
}

// requireProfile wants a profile, which is a gzipped message.
func requireProfile(t *testing.T, body string) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader([]byte(body)))
	require.NoError(t, err)
	_, err = io.ReadAll(z)
	require.NoError(t, err)
}
