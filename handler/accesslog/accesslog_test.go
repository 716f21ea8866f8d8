package accesslog

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/test/testlog"
	"github.com/framegate/framegate/test/together"
)

func TestMain(m *testing.M) {
	together.Wait(8)
	handlertest.Main(m)
}

// sink is a writer that keeps what it got.
type sink struct{ testlog.Buffer }

// lines decodes what was written.
func (s *sink) lines(t *testing.T) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(s.String()) {
		require.True(t, strings.HasSuffix(line, "\n"), "a whole line: %q", line)
		var m map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &m), line)
		all = append(all, m)
	}
	return all
}

func TestLog_WritesALineForEachCall(t *testing.T) {
	t.Parallel()
	var out sink
	l := New(&out, Config{Sample: 1})
	backend := handlertest.Backend(t, handlertest.Echo)
	_, cc := handlertest.Start(t, handler.Config{
		Observers: []handler.Observer{l},
		Router: handlertest.RouterFunc(func(method string) (cluster.Target, bool) {
			return cluster.Target{Route: "r", Pattern: "/s/*", Backend: "b", Address: backend}, method == "/s/Say"
		}),
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	before := time.Now()
	_, err := handlertest.Unary(metadata.AppendToOutgoingContext(ctx, "x-request-id", "id-1"), cc, "/s/Say", []byte("hello"))
	require.NoError(t, err)
	wait := func(n int) { // a client has its answer before the line is written
		require.Eventually(t, func() bool { return len(out.lines(t)) == n }, 10*time.Second, time.Millisecond)
	}
	wait(1)
	_, err = handlertest.Unary(ctx, cc, "/s/Other", nil)
	require.Error(t, err)
	wait(2)
	require.NoError(t, l.Close())
	require.NoError(t, l.Close())

	line := out.lines(t)[0]
	at, err := time.Parse(time.RFC3339Nano, line["time"].(string))
	require.NoError(t, err)
	require.WithinRange(t, at, before, time.Now())
	for _, key := range []string{"duration_ms", "first_byte_ms"} {
		require.Greater(t, line[key], 0.0, key)
		require.Less(t, line[key], 20_000.0, key)
	}
	require.LessOrEqual(t, line["first_byte_ms"], line["duration_ms"])
	require.True(t, strings.HasPrefix(line["peer"].(string), "127.0.0.1:"), line["peer"])
	require.True(t, strings.HasPrefix(line["user_agent"].(string), "handlertest"), line["user_agent"])
	for _, key := range []string{"time", "duration_ms", "first_byte_ms", "peer", "user_agent"} {
		delete(line, key)
	}
	require.Equal(t, map[string]any{
		"listener": "main", "method": "/s/Say", "route": "r", "backend": "b", "endpoint": backend, "code": "OK", "reason": "",
		"request_messages": 1.0, "request_bytes": 10.0, "response_messages": 1.0, "response_bytes": 10.0,
		"authority": cc.CanonicalTarget()[len("passthrough:///"):], "request_id": "id-1",
	}, line)
	line = out.lines(t)[1]
	require.Equal(t, []any{"/s/Other", "UNIMPLEMENTED", "no_route", "", 0.0},
		[]any{line["method"], line["code"], line["reason"], line["route"], line["first_byte_ms"]})
}

func ok() *handler.Record { return &handler.Record{Start: time.Now(), Method: "/s/m", Route: "r"} }

func TestLog_SaysHowManyAttemptsThereWereIfMoreThanOne(t *testing.T) {
	t.Parallel()
	var out sink
	l := New(&out, Config{Sample: 1})
	tried := ok()
	tried.Endpoint, tried.Attempts = "127.0.0.1:2", handler.Attempts{Transparent: 1, Retries: 2}
	l.CallEnded(ok())
	l.CallEnded(tried)
	require.NoError(t, l.Close())
	lines := out.lines(t)
	require.NotContains(t, lines[0], "attempts")
	require.Equal(t, []any{4.0, "127.0.0.1:2"}, []any{lines[1]["attempts"], lines[1]["endpoint"]})
}

// counted is a sink that counts writes.
type counted struct {
	sink
	writes atomic.Int64
}

func (c *counted) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.sink.Write(p)
}

// Lines of a tenth of a second are written together, and no line waits longer, whether others follow or not.
func TestLog_LinesShareWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out counted
		l := New(&out, Config{Sample: 1})
		for range 200 {
			l.CallEnded(ok())
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(flushInterval)
		synctest.Wait()
		require.Len(t, out.lines(t), 200)
		require.LessOrEqual(t, out.writes.Load(), int64(11))
		l.CallEnded(ok())
		time.Sleep(flushInterval)
		synctest.Wait()
		require.Len(t, out.lines(t), 201)
		require.NoError(t, l.Close())
	})
}

// What a client sends is in the line, and nothing of it that a terminal acts on.
func TestLog_HasNothingThatATerminalActsOn(t *testing.T) {
	t.Parallel()
	const hostile = "/s/m\x1b[2J\x7f\u009b31m\u202e\u2066\u200b\U000e0041\n\xff"
	var out sink
	l := New(&out, Config{Sample: 1})
	odd := ok()
	odd.Method, odd.Route, odd.Backend, odd.Endpoint = hostile, hostile, hostile, hostile
	l.CallEnded(odd)
	l.CallEnded(ok())
	require.NoError(t, l.Close())
	text := out.String()
	require.Equal(t, -1, strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }), "%q", text)
	lines := out.lines(t)
	require.Len(t, lines, 2)
	require.Equal(t, strings.ToValidUTF8(hostile, "\ufffd"), lines[0]["method"])
	require.Equal(t, "/s/m", lines[1]["method"])
}

func TestLog_SamplesAndAlwaysLogsErrorsIfTold(t *testing.T) {
	t.Parallel()
	const calls = 4000
	timedOut, canceled, upstream := ok(), ok(), ok()
	timedOut.Code, timedOut.Reason = codes.DeadlineExceeded, local.ReasonTimeout
	canceled.Code, canceled.Reason = codes.Canceled, local.ReasonCanceled
	upstream.Code = codes.Internal
	for name, c := range map[string]struct {
		cfg       Config
		record    *handler.Record
		low, high int
	}{
		"all":                           {Config{Sample: 1}, ok(), calls, calls},
		"none":                          {Config{}, ok(), 0, 0},
		"one in ten":                    {Config{Sample: 0.1}, ok(), calls / 10 * 3 / 4, calls / 10 * 5 / 4},
		"errors":                        {Config{Errors: true}, timedOut, ExtraErrors, calls / 2},
		"errors beside a sample":        {Config{Errors: true, Sample: 0.5}, timedOut, calls * 4 / 10, calls * 7 / 10},
		"errors beside all":             {Config{Errors: true, Sample: 1}, timedOut, calls, calls},
		"errors not asked for":          {Config{}, timedOut, 0, 0},
		"errors, not what succeeded":    {Config{Errors: true}, ok(), 0, 0},
		"errors, not upstream's":        {Config{Errors: true}, upstream, 0, 0},
		"errors, not what was given up": {Config{Errors: true}, canceled, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var out sink
			c.cfg.Buffer = calls
			l := New(&out, c.cfg)
			for range calls {
				l.CallStarted(c.record).CallEnded(c.record)
			}
			require.NoError(t, l.Close())
			n := len(out.lines(t))
			require.GreaterOrEqual(t, n, c.low)
			require.LessOrEqual(t, n, c.high)
			require.Zero(t, l.Dropped())
		})
	}
}

func TestLog_TextOfPeersIsBoundedAndBreaksNoLine(t *testing.T) {
	t.Parallel()
	for name, method := range map[string]string{
		"line break":   "/s/m\n{\"code\":\"OK\"}",
		"other breaks": "/s/m\r\u2028\x00\"",
		"not UTF-8":    "/s/\xff\xfe",
		"long":         "/s/" + strings.Repeat("ü", 100_000),
	} {
		t.Run(name, func(t *testing.T) {
			var out sink
			l := New(&out, Config{Sample: 1})
			r := ok()
			r.Method, r.Code = method, 4711
			l.CallEnded(r)
			require.NoError(t, l.Close())
			lines := out.lines(t)
			require.Len(t, lines, 1)
			require.Equal(t, "4711", lines[0]["code"])
			got := lines[0]["method"].(string)
			require.True(t, utf8.ValidString(got))
			require.LessOrEqual(t, len(got), maxText+8)
			require.True(t, strings.HasPrefix(got, "/s/"), got)
			require.Less(t, len(out.String()), 1000)
		})
	}
}

// gate is a writer that waits until it is opened.
type gate struct {
	sink
	open chan struct{}
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	return g.sink.Write(p)
}

func TestLog_FloodIsDroppedAndCounted(t *testing.T) {
	t.Parallel()
	const calls, buffer = 5000, 10
	out := &gate{open: make(chan struct{})}
	l := New(out, Config{Sample: 1, Buffer: buffer})
	for range calls { // would never end if any of them waited
		l.CallEnded(ok())
	}
	dropped := l.Dropped()
	require.Positive(t, dropped)
	close(out.open)
	require.NoError(t, l.Close())
	require.EqualValues(t, calls, dropped+int64(len(out.lines(t))))
	l.CallEnded(ok())
	require.Equal(t, dropped+1, l.Dropped(), "a call after Close")
}

// brittle fails while it is broken, after taking half of what it got.
type brittle struct {
	sink
	broken bool
}

func (b *brittle) Write(p []byte) (int, error) {
	if !b.broken {
		return b.sink.Write(p)
	}
	n, _ := b.sink.Write(p[:len(p)/2])
	return n, errors.New("no space left on device")
}

func TestWriter_GoesOnWhereAFailedWriteEnded(t *testing.T) {
	t.Parallel()
	out := &brittle{broken: true}
	var w writer
	w.init(out)
	w.add(newEntry(ok()))
	lost, err := w.flush()
	require.EqualValues(t, 1, lost)
	require.EqualError(t, err, "no space left on device")
	out.broken = false
	for range 3 {
		w.add(newEntry(ok()))
	}
	lost, err = w.flush()
	require.Zero(t, lost)
	require.NoError(t, err)
	half, rest, _ := strings.Cut(out.String(), "\n")
	require.False(t, json.Valid([]byte(half)))
	require.Equal(t, 3, strings.Count(rest, "\n"))
	for line := range strings.Lines(rest) {
		require.True(t, json.Valid([]byte(line)), line)
	}
}

func TestLog_SaysThatCallsAreLost(t *testing.T) {
	t.Parallel()
	var said sink
	out := &brittle{broken: true}
	l := New(out, Config{Sample: 1, Log: slog.New(slog.NewJSONHandler(&said, nil))})
	for i := range int64(3) {
		l.CallEnded(ok())
		require.Eventually(t, func() bool { return l.Dropped() == i+1 }, 10*time.Second, time.Millisecond)
	}
	require.NoError(t, l.Close())
	const misses, incomplete = "the access log misses calls", "the access log has ended incomplete"
	var got [][]any
	for _, line := range said.lines(t) {
		require.Equal(t, "WARN", line["level"])
		got = append(got, []any{line["msg"], line["lost"], line["lost_since_start"], line["error"]})
	}
	require.Equal(t, [][]any{
		{misses, 1.0, 1.0, "no space left on device"}, // at once; the others within the same minute
		{misses, 2.0, 3.0, "no space left on device"},
		{incomplete, nil, 3.0, nil},
	}, got)
}

func TestLosses_AreSaidOnceAMinute(t *testing.T) {
	var said sink
	synctest.Test(t, func(t *testing.T) {
		log, s, began := slog.New(slog.NewJSONHandler(&said, nil)), newLosses(), time.Now()
		for _, after := range []time.Duration{0, time.Second, 59 * time.Second, 60 * time.Second, 61 * time.Second, 3 * time.Minute} {
			time.Sleep(time.Until(began.Add(after)))
			s.report(log, int64(after/time.Second)+1)
		}
		time.Sleep(time.Hour)
		s.report(log, 181) // no more than before
	})
	var lost []any
	for _, line := range said.lines(t) {
		require.Equal(t, "its writer was too slow", line["error"])
		lost = append(lost, line["lost"])
	}
	require.Equal(t, []any{1.0, 60.0, 120.0}, lost)

	var nothing sink
	new(losses).end(slog.New(slog.NewJSONHandler(&nothing, nil)), 0)
	require.Empty(t, nothing.lines(t), "nothing is lost")
}

func TestLog_CallThatMeetsCloseIsCounted(t *testing.T) {
	t.Parallel()
	var out sink
	l := New(&out, Config{Sample: 1})
	require.NoError(t, l.Close())
	l.closed.Store(false) // as a call saw it that ended just before
	l.CallEnded(ok())
	require.EqualValues(t, 1, l.Dropped())
}

func TestLog_EveryCallIsWrittenOrCountedWhenClosed(t *testing.T) {
	t.Parallel()
	const goroutines, calls = 4, 500
	for range 20 {
		var out sink
		l := New(&out, Config{Sample: 1, Buffer: 16})
		var ending sync.WaitGroup
		for range goroutines {
			ending.Go(func() {
				for range calls {
					l.CallEnded(ok())
				}
			})
		}
		require.NoError(t, l.Close())
		ending.Wait()
		require.EqualValues(t, goroutines*calls, l.Dropped()+int64(len(out.lines(t))))
	}
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	require.NoError(t, Config{}.Validate())
	require.NoError(t, Config{Sample: 1, Buffer: 1 << 20}.Validate())
	require.EqualError(t, Config{Sample: 1.1}.Validate(), "sample: 1.1, want 0 to 1")
	require.EqualError(t, Config{Buffer: -1}.Validate(), "buffer: -1, want 0 to 1048576")
}

func BenchmarkCallEnded(b *testing.B) {
	for name, sample := range map[string]float64{"not sampled": 1e-12, "one in 100": 0.01, "all": 1} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			l := New(io.Discard, Config{Sample: sample, Errors: true})
			r := ok()
			for b.Loop() {
				l.CallStarted(r).CallEnded(r)
			}
			require.NoError(b, l.Close())
		})
	}
}

func TestLog_NotSampledAllocatesNothing(t *testing.T) {
	l := New(io.Discard, Config{Sample: 1e-12, Errors: true})
	r := ok()
	require.Zero(t, testing.AllocsPerRun(1000, func() { l.CallStarted(r).CallEnded(r) }))
	require.NoError(t, l.Close())
}
