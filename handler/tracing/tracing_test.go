package tracing

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/test/refusing"
)

func TestMain(m *testing.M) { handlertest.Main(m) }

// collectorServer is an OTLP collector that keeps what it is sent.
type collectorServer struct {
	collector.UnimplementedTraceServiceServer
	spans chan *tracepb.ResourceSpans
}

func (c *collectorServer) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	for _, s := range r.ResourceSpans {
		c.spans <- s
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// startCollector starts a collector and returns its address.
func startCollector(t *testing.T) (*collectorServer, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &collectorServer{spans: make(chan *tracepb.ResourceSpans, 1000)}
	s := grpc.NewServer()
	collector.RegisterTraceServiceServer(s, c)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	t.Cleanup(func() { s.Stop(); <-done })
	return c, ln.Addr().String()
}

// all returns the spans that came. The Tracer must be shut down.
func (c *collectorServer) all() []*tracepb.Span {
	close(c.spans)
	var all []*tracepb.Span
	for r := range c.spans {
		for _, s := range r.ScopeSpans {
			all = append(all, s.Spans...)
		}
	}
	return all
}

// attributes returns attributes as text and numbers.
func attributes(list []*common.KeyValue) map[string]any {
	all := map[string]any{}
	for _, kv := range list {
		switch v := kv.Value.Value.(type) {
		case *common.AnyValue_StringValue:
			all[kv.Key] = v.StringValue
		case *common.AnyValue_IntValue:
			all[kv.Key] = v.IntValue
		}
	}
	return all
}

const (
	traceID  = "4bf92f3577b34da6a3ce929d0e0e4736"
	parentID = "00f067aa0ba902b7"
)

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestTracer_SpansJoinTheClientsTraceWhichPassesUnchanged(t *testing.T) {
	sink, addr := startCollector(t)
	tracer, err := New(deadline(t), Config{Endpoint: addr, Insecure: true, Service: "edge"})
	require.NoError(t, err)
	got := make(chan metadata.MD, 10)
	backend := handlertest.Backend(t, func(s grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(s.Context())
		got <- md
		switch method, _ := grpc.MethodFromServerStream(s); method {
		case "/echo.Echo/Missing":
			return status.Error(codes.NotFound, "no")
		case "/echo.Echo/Broken":
			return status.Error(codes.Internal, "broken")
		case "/echo.Echo/Unknown", "/echo.Echo/Exact":
			return status.Error(codes.Unimplemented, "unknown method")
		}
		return handlertest.Echo(s)
	})
	_, cc := handlertest.Start(t, handler.Config{
		Observers: []handler.Observer{tracer},
		Router: handlertest.RouterFunc(func(method string) (cluster.Target, bool) {
			to := cluster.Target{Route: "echo", Pattern: "/echo.Echo/*", Backend: "stable", Address: backend}
			switch method {
			case "/echo.Echo/Exact":
				to.Pattern = method
			case "/echo.Echo/Off":
				to.Address = ""
			}
			return to, strings.HasPrefix(method, "/echo.")
		}),
	})
	const sampled, notSampled = "00-" + traceID + "-" + parentID + "-01", "00-" + traceID + "-" + parentID + "-00"
	call := func(method, parent string) {
		ctx := metadata.AppendToOutgoingContext(deadline(t), "traceparent", parent, "tracestate", "vendor=1", "tracestate", "other=2")
		_, err := handlertest.Unary(ctx, cc, method, []byte("hello"))
		require.Equal(t, method == "/echo.Echo/Say", err == nil, "%v", err)
	}
	before := time.Now()
	methods := []string{"/echo.Echo/Say", "/echo.Echo/Missing", "/echo.Echo/Broken", "/echo.Echo/Unknown", "/echo.Echo/Exact"}
	for _, method := range methods {
		call(method, sampled)
		md := <-got
		require.Equal(t, []string{sampled}, md["traceparent"])
		require.Equal(t, []string{"vendor=1", "other=2"}, md["tracestate"])
	}
	call("/echo.Echo/Off", sampled)
	call("/none.None/Random", sampled)
	call("/echo.Echo/Say", notSampled)
	require.Equal(t, []string{notSampled}, (<-got)["traceparent"])
	_, err = handlertest.Unary(deadline(t), cc, "/echo.Echo/Say", nil) // a root, of which none is sampled
	require.NoError(t, err)
	require.Empty(t, (<-got)["traceparent"])

	want := []struct {
		name, method, original, code, reason string
		status                               tracepb.Status_StatusCode
	}{
		{name: "echo.Echo/Say", method: "echo.Echo/Say", code: "OK"},
		{name: "echo.Echo/Missing", method: "echo.Echo/Missing", code: "NOT_FOUND"},
		{name: "echo.Echo/Broken", method: "echo.Echo/Broken", code: "INTERNAL", status: tracepb.Status_STATUS_CODE_ERROR},
		{name: "echo.Echo/*", method: "_OTHER", original: "echo.Echo/Unknown", code: "UNIMPLEMENTED", status: tracepb.Status_STATUS_CODE_ERROR},
		{name: "echo.Echo/Exact", method: "echo.Echo/Exact", code: "UNIMPLEMENTED", status: tracepb.Status_STATUS_CODE_ERROR},
		{name: "echo.Echo/Off", method: "echo.Echo/Off", code: "UNAVAILABLE", reason: "no_endpoint", status: tracepb.Status_STATUS_CODE_ERROR},
		{name: "_OTHER", method: "_OTHER", original: "none.None/Random", code: "UNIMPLEMENTED", reason: "no_route", status: tracepb.Status_STATUS_CODE_ERROR},
	}
	spans := sink.wait(t, tracer, len(want))
	require.Len(t, spans, len(want))
	for _, w := range want {
		var s *tracepb.Span
		for _, candidate := range spans {
			if candidate.Name == w.name {
				require.Nil(t, s, "two spans %s", w.name)
				s = candidate
			}
		}
		require.NotNil(t, s, w.name)
		require.Equal(t, traceID, hex.EncodeToString(s.TraceId))
		require.Equal(t, parentID, hex.EncodeToString(s.ParentSpanId))
		require.Equal(t, "vendor=1,other=2", s.TraceState)
		require.Equal(t, tracepb.Span_SPAN_KIND_SERVER, s.Kind)
		require.Equal(t, w.status, s.Status.GetCode(), w.name)
		start, end := time.Unix(0, int64(s.StartTimeUnixNano)), time.Unix(0, int64(s.EndTimeUnixNano))
		require.WithinRange(t, start, before, end)
		require.WithinRange(t, end, start, time.Now())
		a := attributes(s.Attributes)
		require.Equal(t, "grpc", a["rpc.system.name"])
		require.Equal(t, w.method, a["rpc.method"])
		require.Equal(t, w.code, a["rpc.response.status_code"])
		require.Equal(t, "127.0.0.1", a["network.peer.address"])
		require.Positive(t, a["network.peer.port"])
		for key, value := range map[string]string{"rpc.method_original": w.original, "framegate.error": w.reason} {
			if value == "" {
				require.NotContains(t, a, key, w.name)
			} else {
				require.Equal(t, value, a[key], w.name)
			}
		}
		if w.status == tracepb.Status_STATUS_CODE_ERROR {
			require.Equal(t, w.code, a["error.type"])
		}
		if w.reason == "" {
			require.Equal(t, []any{"echo", "stable", backend}, []any{a["framegate.route"], a["framegate.backend"], a["framegate.endpoint"]})
		}
	}
}

// wait waits until n spans have come, shuts the Tracer down and returns all that came: a client has its answer before
// the call's span is made.
func (c *collectorServer) wait(t *testing.T, tracer *Tracer, n int) []*tracepb.Span {
	t.Helper()
	var all []*tracepb.Span
	for end := time.Now().Add(10 * time.Second); len(all) < n && time.Now().Before(end); {
		require.NoError(t, tracer.provider.ForceFlush(deadline(t)))
		for len(c.spans) > 0 {
			r := <-c.spans
			require.Equal(t, "edge", attributes(r.Resource.Attributes)["service.name"])
			for _, s := range r.ScopeSpans {
				all = append(all, s.Spans...)
			}
		}
	}
	require.NoError(t, tracer.Shutdown(deadline(t)))
	require.NoError(t, tracer.Shutdown(deadline(t)))
	return append(all, c.all()...)
}

func TestTracer_StartsTracesForItsShareOfCalls(t *testing.T) {
	const calls = 1000
	for name, c := range map[string]struct {
		sample    float64
		low, high int
	}{"none": {0, 0, 0}, "a quarter": {0.25, calls / 4 * 3 / 4, calls / 4 * 5 / 4}, "all": {1, calls, calls}} {
		t.Run(name, func(t *testing.T) {
			sink, addr := startCollector(t)
			tracer, err := New(deadline(t), Config{Endpoint: addr, Insecure: true, Sample: c.sample})
			require.NoError(t, err)
			for range calls {
				r := &handler.Record{Start: time.Now(), Method: "/s/m", Route: "r", Pattern: "*"}
				tracer.CallStarted(r).CallEnded(r)
			}
			require.NoError(t, tracer.Shutdown(deadline(t)))
			spans := sink.all()
			require.GreaterOrEqual(t, len(spans), c.low)
			require.LessOrEqual(t, len(spans), c.high)
			for _, s := range spans {
				require.Empty(t, s.ParentSpanId)
			}
		})
	}
}

func TestTracer_SpanSaysHowManyAttemptsThereWereIfMoreThanOne(t *testing.T) {
	sink, addr := startCollector(t)
	tracer, err := New(deadline(t), Config{Endpoint: addr, Insecure: true, Sample: 1, Service: "edge"})
	require.NoError(t, err)
	for i := range 3 {
		r := &handler.Record{Start: time.Now(), Method: fmt.Sprintf("/s/m%d", i), Route: "r", Pattern: "*", Attempts: handler.Attempts{Hedges: i}}
		tracer.CallStarted(r).CallEnded(r)
	}
	attempts := map[string]any{}
	for _, s := range sink.wait(t, tracer, 3) {
		attempts[s.Name] = attributes(s.Attributes)["framegate.attempts"]
	}
	require.Equal(t, map[string]any{"s/m0": nil, "s/m1": int64(2), "s/m2": int64(3)}, attempts)
}

func TestTracer_TextOfPeersIsBoundedAndUTF8(t *testing.T) {
	sink, addr := startCollector(t)
	tracer, err := New(deadline(t), Config{Endpoint: addr, Insecure: true, Sample: 1})
	require.NoError(t, err)
	for _, method := range []string{"/s/\xff\n", "/s/" + strings.Repeat("ü", 100_000)} {
		r := &handler.Record{Start: time.Now(), Method: method, Route: "r", Pattern: "*"}
		tracer.CallEnded(r)
	}
	require.NoError(t, tracer.Shutdown(deadline(t)))
	spans := sink.all()
	require.Len(t, spans, 2)
	for _, s := range spans {
		require.LessOrEqual(t, len(s.Name), maxText)
	}
}

func TestTracer_CallsDoNotFeelACollectorThatIsAway(t *testing.T) {
	tracer, err := New(deadline(t), Config{Endpoint: refusing.Address(t), Insecure: true, Sample: 1})
	require.NoError(t, err)
	LogErrors(slog.New(slog.DiscardHandler))
	start := time.Now()
	for range 10_000 { // more than the exporter keeps
		r := &handler.Record{Start: time.Now(), Method: "/s/m", Route: "r", Pattern: "*"}
		tracer.CallEnded(r)
	}
	require.Less(t, time.Since(start), 10*time.Second)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, tracer.Shutdown(ctx), context.Canceled)
}

func TestLogErrors_LogsAtMostOneAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := newErrorLog(slog.New(slog.NewTextHandler(&out, nil)))
		for range 60 {
			l.Handle(errors.New("collector is away"))
			time.Sleep(2 * time.Second)
		}
		require.Equal(t, 2, strings.Count(out.String(), "collector is away"), out.String())
		require.Contains(t, out.String(), "left_out_before=29")
	})
}

func TestConfig_Validate(t *testing.T) {
	require.NoError(t, Config{Endpoint: "127.0.0.1:4317", Sample: 0.1}.Validate())
	require.EqualError(t, Config{Endpoint: "collector", Sample: -1}.Validate(),
		"endpoint: \"collector\", want host:port\nsample: -1, want 0 to 1")
}

func BenchmarkCallEnded(b *testing.B) {
	for name, sample := range map[string]float64{"not sampled": 0, "all": 1} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			tracer, err := New(context.Background(), Config{Endpoint: "127.0.0.1:1", Insecure: true, Sample: sample})
			if err != nil {
				b.Fatal(err)
			}
			r := &handler.Record{Start: time.Now(), Method: "/s/m", Route: "r", Pattern: "*"}
			for b.Loop() {
				tracer.CallStarted(r).CallEnded(r)
			}
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_ = tracer.Shutdown(ctx) // there is no collector
		})
	}
}
