package load

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/cloudwego/kitex/pkg/kerrors"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/stretchr/testify/require"
)

func sample() *Result {
	target := Measured{
		Address: "127.0.0.1:8888", ElapsedSeconds: 10, Calls: 150000, Throughput: Throughput{15000, 1.92, 1.92},
		LatencyUS:  LatencyUS{Mean: 820.4, P50: 800, P90: 1200, P99: 2500, P999: 9000, Max: 1.5e6},
		ErrorCount: 12, Errors: map[string]int64{"UNAVAILABLE": 10, "INTERNAL": 2}, FirstError: "connection refused",
		UnsentCalls: 3, ConnectionsDialed: 5,
	}
	baseline := target
	baseline.Address, baseline.Throughput.CallsPerSecond, baseline.LatencyUS.P50 = "127.0.0.1:9001", 30000, 400
	baseline.ErrorCount, baseline.Errors, baseline.FirstError = 0, map[string]int64{}, ""
	return &Result{
		Mode: Client, DurationSeconds: 10, WarmupSeconds: 0.5, Connections: 4, Concurrency: 64, SizeBytes: 128,
		MessagesPerCall: 100, RatePerSecond: 20000, Target: target, Baseline: &baseline, Ratio: newRatio(target, baseline),
	}
}

func TestResult_JSONRoundTrips(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, sample().WriteJSON(&out))
	require.Equal(t, 1, strings.Count(out.String(), "\n"), "one object on one line")

	var back Result
	dec := json.NewDecoder(bytes.NewReader(out.Bytes()))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&back))
	require.Equal(t, sample(), &back)

	var fields map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &fields))
	target := fields["target"].(map[string]any)
	require.EqualValues(t, 2500, target["latency_us"].(map[string]any)["p99"])
	require.EqualValues(t, 15000, target["throughput"].(map[string]any)["calls_per_s"])
	require.EqualValues(t, 0.5, fields["ratio"].(map[string]any)["throughput"])
}

func TestResult_TextIsATable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, sample().WriteText(&out))
	want := `client calls, 20000 calls/s; 4 connections, 64 in flight, 128 bytes × 100 per call; 10s per side
               target                           baseline        target/baseline
address        127.0.0.1:8888                   127.0.0.1:9001
calls          150000                           150000
calls/s        15000                            30000           0.50
sent MB/s      1.92                             1.92
received MB/s  1.92                             1.92
latency mean   820 µs                           820 µs
latency p50    800 µs                           400 µs          2.00
latency p90    1.20 ms                          1.20 ms
latency p99    2.50 ms                          2.50 ms         1.00
latency p99.9  9.00 ms                          9.00 ms
latency max    1.50 s                           1.50 s
errors         12 (INTERNAL 2, UNAVAILABLE 10)  0
unsent calls   3                                3
first error of 127.0.0.1:8888: connection refused
`
	require.Equal(t, want, out.String())
}

func TestCodeOf(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		want string
	}{
		{status.Err(codes.NotFound, ""), "NOT_FOUND"},
		{status.Err(codes.Code(99), ""), "CODE(99)"},
		{fmt.Errorf("wrapped: %w", status.Err(codes.Aborted, "")), "ABORTED"},
		{kerrors.NewBizStatusError(7, ""), "BIZ_STATUS(7)"},
		{kerrors.NewGRPCBizStatusError(8, ""), "BIZ_STATUS(8)"},
		{kerrors.ErrGetConnection.WithCause(errors.New("refused")), "UNAVAILABLE"},
		{kerrors.ErrGetConnection.WithCause(status.Err(codes.ResourceExhausted, "")), "RESOURCE_EXHAUSTED"},
		{grpc.ErrConnClosing, "UNAVAILABLE"},
		{kerrors.ErrRPCTimeout.WithCause(errors.New("late")), "DEADLINE_EXCEEDED"},
		{io.ErrUnexpectedEOF, "UNKNOWN"},
	} {
		require.Equal(t, tc.want, codeOf(tc.err), "%v", tc.err)
	}
}

func TestRecorder_MergesWhatWorkersMeasured(t *testing.T) {
	t.Parallel()
	w := newWindow(1000, 1000)
	a, b, sum := newRecorder(), newRecorder(), newRecorder()
	first, second := errors.New("first"), errors.New("second")
	a.fail(w, w.open.Add(1), w.open.Add(20), "X", second)
	b.fail(w, w.open.Add(1), w.open.Add(10), "X", first)
	b.fail(w, w.open.Add(-1), w.open.Add(5), "Y", errors.New("begun in the warm-up"))
	a.succeed(w, w.open.Add(-1), w.open, traffic{1, 2})         // throughput only
	a.succeed(w, w.open, w.open.Add(999), traffic{1, 2})        // both
	b.succeed(w, w.open.Add(999), w.open.Add(1e6), traffic{})   // latency only
	b.succeed(w, w.open.Add(-1), w.open.Add(2000), traffic{})   // neither
	b.succeed(w, w.open, w.open.Add(3*MaxDuration), traffic{})  // more than the histogram holds
	b.succeed(w, w.close, w.close.Add(10), traffic{sent: 1000}) // too late
	a.mergeInto(sum)
	b.mergeInto(sum)
	require.EqualValues(t, 3, sum.latencies.TotalCount())
	require.EqualValues(t, 2, sum.inWindow)
	require.Equal(t, traffic{2, 4}, sum.traffic)
	require.EqualValues(t, 2, sum.failed)
	require.Equal(t, map[string]int64{"X": 2}, sum.errors)
	require.Equal(t, first, sum.firstErr)
	require.InEpsilon(t, float64(maxLatency), float64(sum.latencies.Max()), 0.001)
}
