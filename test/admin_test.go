package test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/framegate/framegate/test/testbed"
)

// answerOfAdmin makes one request of the admin API and returns the body of an answer with that status.
func answerOfAdmin(t testing.TB, method, url, body string, status int) string {
	t.Helper()
	req, err := http.NewRequestWithContext(patient(t), method, url, strings.NewReader(body))
	require.NoError(t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, status, resp.StatusCode, "%s %s: %s", method, url, got)
	return string(got)
}

// revisionOf returns how often anything in etcd has changed.
func revisionOf(t testing.TB, etcd *testbed.Etcd) int64 {
	t.Helper()
	resp, err := testbed.DialEtcd(t, etcd.Endpoint).Get(patient(t), "x")
	require.NoError(t, err)
	return resp.Header.Revision
}

func TestAdmin_WhatOneFramegateIsToldAllDo(t *testing.T) {
	etcd := testbed.NewEtcd(t)
	one := testbed.NewProxy(t, "", testbed.EtcdAt(etcd.Endpoint), testbed.Admin())
	two := testbed.NewProxy(t, "", testbed.EtcdAt(etcd.Endpoint), testbed.Admin())
	ccs := []*grpc.ClientConn{testbed.DialGRPC(t, one.Addr), testbed.DialGRPC(t, two.Addr)}
	within := func(want string) {
		t.Helper()
		for _, cc := range ccs {
			require.LessOrEqual(t, awaitAnswer(t, cc, "/a.B/C", want), liveWithin)
		}
	}
	for _, p := range []*testbed.Proxy{one, two} {
		testbed.Poll(t, func() error {
			resp, err := http.Get(p.Admin() + "/readyz")
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("readyz: %s", resp.Status)
			}
			return nil
		})
	}

	answerOfAdmin(t, http.MethodPut, one.Admin()+"/v1/routes/r", `{"name": "r", "match": [{"method": "/a.B/*"}], "backends": [{"service": "s"}]}`, http.StatusCreated)
	within("no_endpoint")
	addr := answering(t, "hello")
	instance := one.Admin() + "/v1/services/s/instances/" + addr
	answerOfAdmin(t, http.MethodPut, instance, `{"weight": 5, "ttl": "30s"}`, http.StatusCreated)
	within("hello")
	before := revisionOf(t, etcd)
	answerOfAdmin(t, http.MethodPut, instance, `{"weight": 5, "ttl": "30s"}`, http.StatusOK)
	answerOfAdmin(t, http.MethodPut, two.Admin()+"/v1/services/s/instances/"+addr, `{"weight": 5, "ttl": "30s"}`, http.StatusOK)
	require.Contains(t, answerOfAdmin(t, http.MethodGet, two.Admin()+"/v1/services/s", "", http.StatusOK), addr)
	require.Contains(t, answerOfAdmin(t, http.MethodGet, two.Admin()+"/v1/explain?method=/a.B/C", "", http.StatusOK), addr)
	require.Contains(t, answerOfAdmin(t, http.MethodGet, two.Admin()+"/v1/endpoints", "", http.StatusOK), addr)
	require.NotContains(t, answerOfAdmin(t, http.MethodGet, two.Admin()+"/v1/config", "", http.StatusOK), "null")
	require.Equal(t, before, revisionOf(t, etcd), "registering twice changes nothing")
	answerOfAdmin(t, http.MethodDelete, two.Admin()+"/v1/services/s/instances/"+addr, "", http.StatusNoContent)
	within("no_endpoint")
	answerOfAdmin(t, http.MethodDelete, two.Admin()+"/v1/routes/r", "", http.StatusNoContent)
	within("no_route")
}

func TestAdmin_MetricsAreOfTheCallsMade(t *testing.T) {
	t.Parallel()
	one := answering(t, "one")
	proxy := testbed.NewProxy(t, testbed.RouteTo(one), testbed.Admin())
	cc := testbed.DialGRPC(t, proxy.Addr)
	for range 5 {
		require.Equal(t, "one", answerOf(t, cc, "/a.B/C"))
	}
	testbed.Poll(t, func() error { // a call is counted when nothing of it is left
		got := answerOfAdmin(t, http.MethodGet, proxy.Admin()+"/metrics", "", http.StatusOK)
		for _, want := range []string{
			`framegate_calls_total{backend="",code="OK",method="*",route="all"} 5`,
			`framegate_messages_total{backend="",direction="request",route="all"} 5`,
			`framegate_active_calls{backend="",route="all"} 0`,
			fmt.Sprintf(`framegate_upstream_connections{endpoint=%q} 1`, one),
			`framegate_config_stale 0`,
		} {
			if !strings.Contains(got, want) {
				return fmt.Errorf("no %s in:\n%s", want, got)
			}
		}
		return nil
	})
}

func TestAccessLog_HasALineForEachCall(t *testing.T) {
	t.Parallel()
	one := answering(t, "one")
	path := filepath.Join(t.TempDir(), "access.log")
	proxy := testbed.NewProxy(t, testbed.RouteTo(one), testbed.AccessLog(path))
	cc := testbed.DialGRPC(t, proxy.Addr, grpc.WithAuthority("shop.example.com"))
	for range 3 {
		require.Equal(t, "one", answerOf(t, cc, "/a.B/C"))
	}
	proxy.Stop() // writes what waits
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	lines := 0
	for s := bufio.NewScanner(f); s.Scan(); lines++ {
		var line map[string]any
		require.NoError(t, json.Unmarshal(s.Bytes(), &line))
		for key, want := range map[string]any{"listener": "main", "method": "/a.B/C", "route": "all", "endpoint": one, "code": "OK", "authority": "shop.example.com"} {
			require.Equal(t, want, line[key], key)
		}
	}
	require.Equal(t, 3, lines)
}

// spans is an OTLP receiver.
type spans struct {
	collector.UnimplementedTraceServiceServer
	got chan *trace.Span
}

func (s *spans) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	for _, r := range req.ResourceSpans {
		for _, scope := range r.ScopeSpans {
			for _, span := range scope.Spans {
				s.got <- span
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func TestTracing_SpanJoinsTheClientsTrace(t *testing.T) {
	t.Parallel()
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	seen := make(chan []string, 1)
	one := testbed.NewRaw(t, func(stream grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(stream.Context())
		seen <- md.Get("traceparent")
		return testbed.Send(stream, nil)
	})
	receiver := &spans{got: make(chan *trace.Span, 10)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	svr := grpc.NewServer()
	collector.RegisterTraceServiceServer(svr, receiver)
	go func() { _ = svr.Serve(ln) }()
	t.Cleanup(svr.Stop)
	proxy := testbed.NewProxy(t, testbed.RouteTo(one), testbed.Tracing(ln.Addr().String()))
	cc := testbed.DialGRPC(t, proxy.Addr)
	ctx := metadata.AppendToOutgoingContext(patient(t), "traceparent", parent)
	_, err = testbed.Unary(ctx, cc, nil)
	require.NoError(t, err)
	require.Equal(t, []string{parent}, testbed.Await(t, seen, "the call"), "it passes unchanged")
	<-proxy.Drain() // sends what waits
	span := testbed.Await(t, receiver.got, "a span")
	require.Equal(t, "0af7651916cd43dd8448eb211c80319c", fmt.Sprintf("%x", span.TraceId))
	require.Equal(t, "b7ad6b7169203331", fmt.Sprintf("%x", span.ParentSpanId))
	require.Less(t, span.StartTimeUnixNano, span.EndTimeUnixNano)
	require.WithinDuration(t, time.Now(), time.Unix(0, int64(span.EndTimeUnixNano)), time.Minute)
}
