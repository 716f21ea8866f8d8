package admin

import (
	"fmt"
	"testing"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/filesource"
	"github.com/framegate/framegate/resolver/spec"
)

// routed returns a real resolver with the routes of a document.
func routed(t *testing.T, doc string) *resolver.Resolver {
	t.Helper()
	routes, err := spec.ParseRoutes([]byte(doc))
	require.NoError(t, err)
	r := resolver.New()
	t.Cleanup(r.Close)
	r.Apply(filesource.Name, resolver.Bind(routes...))
	return r
}

func TestMetrics_CountAttemptsAndLimitsOfRealCalls(t *testing.T) {
	busy, release := make(chan struct{}, 1), make(chan struct{})
	backend := handlertest.Backend(t, func(s grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(s)
		md, _ := metadata.FromIncomingContext(s.Context())
		switch {
		case method == "/held.S/M":
			busy <- struct{}{}
			<-release
		case method == "/bad.S/M", method == "/flaky.S/M" && len(md.Get("grpc-previous-rpc-attempts")) == 0:
			return status.Error(grpccodes.Unavailable, "not now")
		}
		return handlertest.Echo(s)
	})
	dead := nobody(t)
	const retry = "retry: {attempts: 3, codes: [UNAVAILABLE], backoff: {base: 1ms}}"
	route := func(name, keys string) string {
		return fmt.Sprintf("- {name: %s, match: [{method: /%[1]s.*}], backends: [{name: b, endpoints: [{address: %q}]}], %s}\n", name, backend, keys)
	}
	m := NewMetrics(MetricsConfig{})
	r := routed(t, "routes:\n"+route("flaky", retry)+route("bad", retry)+route("held", "limits: {concurrent: 1}")+
		fmt.Sprintf("- {name: moved, match: [{method: /moved.*}], backends: [{name: b, endpoints: [{address: %q, weight: 1000000}, {address: %q}]}]}\n", dead, backend))
	_, cc := handlertest.Start(t, handler.Config{Observers: []handler.Observer{m}, Router: r})
	ctx := t.Context()
	call := func(method string, want grpccodes.Code) {
		t.Helper()
		_, err := handlertest.Unary(ctx, cc, method, []byte("hello"))
		require.Equal(t, want, status.Code(err), err)
	}
	call("/flaky.S/M", grpccodes.OK)
	call("/flaky.S/M", grpccodes.OK)
	call("/bad.S/M", grpccodes.Unavailable)
	call("/moved.S/M", grpccodes.OK)
	held := make(chan error, 1)
	go func() {
		_, err := handlertest.Unary(ctx, cc, "/held.S/M", []byte("hello"))
		held <- err
	}()
	<-busy
	call("/held.S/M", grpccodes.ResourceExhausted)
	close(release)
	require.NoError(t, <-held)

	var s scrape
	eventually(t, "every call has ended", func() bool {
		s = scrapeOf(t, m)
		return s.value("framegate_calls_total", "route", "held", "backend", "b", "method", "/held.*", "code", "OK") == 1 &&
			s.value("framegate_overloaded_total", "route", "held", "backend", "", "limit", "limits.concurrent") == 1 &&
			s.value("framegate_retries_total", "route", "moved", "backend", "b", "kind", "transparent", "code", "OK") == 1
	})
	require.EqualValues(t, 2, s.value("framegate_retries_total", "route", "flaky", "backend", "b", "kind", "retry", "code", "OK"))
	require.EqualValues(t, 2, s.value("framegate_retries_total", "route", "bad", "backend", "b", "kind", "retry", "code", "UNAVAILABLE"))
	require.Len(t, s["framegate_retries_total"].Metric, 3)
	require.EqualValues(t, 0, s.value("framegate_retries_over_budget_total", "route", "bad", "backend", "b"))
	require.Len(t, s["framegate_overloaded_total"].Metric, 1)
}

func TestMetrics_RetriesAreOfAsManySeriesAsKindsAndCodes(t *testing.T) {
	m := NewMetrics(MetricsConfig{})
	for i := range 1000 {
		r := record("r", "b", "*")
		r.Code, r.Attempts = codes.Code(i), handler.Attempts{Transparent: 1, Retries: 2, Hedges: 3, OverBudget: true}
		end(m, r)
	}
	s := scrapeOf(t, m)
	require.Len(t, s["framegate_retries_total"].Metric, 3*codeSlots)
	for kind, n := range map[string]int{"transparent": 1, "retry": 2, "hedge": 3} {
		require.EqualValues(t, n, s.value("framegate_retries_total", "route", "r", "backend", "b", "kind", kind, "code", "OK"), kind)
		require.EqualValues(t, n*(1000-17), s.value("framegate_retries_total", "route", "r", "backend", "b", "kind", kind, "code", "other"), kind)
	}
	require.EqualValues(t, 1000, s.value("framegate_retries_over_budget_total", "route", "r", "backend", "b"))
}
