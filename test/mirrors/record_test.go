package mirrors

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/cmd/framegate/replay"
	"github.com/framegate/framegate/handler/mirror/tape"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/testbed"
)

// taped is a mirror that records.
func taped(dir, keys string) string {
	return fmt.Sprintf("mirrors: [{name: tape, record: {path: %q}, %s}]\n", dir, keys)
}

// entriesOf waits until a directory of recordings has the ends of that many calls, and returns all entries.
func entriesOf(t testing.TB, dir string, ends int) (all []*tape.Entry) {
	t.Helper()
	testbed.Poll(t, func() error {
		all = nil
		files, err := filepath.Glob(filepath.Join(dir, "*"+tape.Suffix))
		if err != nil {
			return err
		}
		slices.Sort(files)
		n := 0
		for _, name := range files {
			f, err := os.Open(name)
			if err != nil {
				return err
			}
			defer f.Close()
			r, err := tape.NewReader(f)
			if err != nil {
				return err
			}
			for {
				e, err := r.Next()
				if err != nil {
					break
				}
				if all = append(all, e); e.End != nil {
					n++
				}
			}
		}
		if n != ends {
			return fmt.Errorf("%d calls have ended in the recordings, want %d", n, ends)
		}
		return nil
	})
	return all
}

// What is recorded of calls of every kind is what was sent, also compressed; and making them again sends the same, byte for byte.
func TestRecord_ReplaySendsTheSameBytes(t *testing.T) {
	for _, mode := range []string{"frame", "struct"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			dir, echo := t.TempDir(), newReceiver(t)
			p := testbed.NewProxy(t, route(echo.addr, mode, taped(dir, "queue: {messages: 100000, bytes: 64MiB}")))
			cc := testbed.DialGRPC(t, p.Addr)
			ctx := metadata.AppendToOutgoingContext(within(t), "x-tenant", "gold", "authorization", "secret", "x-bin", "\x00\xff")
			want := [][]string{nil, {"one"}, {"one", "two", strings.Repeat("three", 20_000)}}
			for _, messages := range want {
				_, err := makeCall(ctx, t, cc, messages...)
				require.NoError(t, err)
			}
			zipped := compressedCall(t, p.Addr)
			var sent []received
			for range 4 {
				sent = append(sent, echo.await(t))
			}
			entries := entriesOf(t, dir, 4)
			recorded := map[string][]string{}
			var order []string
			for _, e := range entries {
				switch {
				case e.Call != nil:
					order = append(order, e.Call.Call)
					recorded[e.Call.Call] = nil
					for _, f := range e.Call.Metadata {
						require.NotContains(t, string(bytes.Join(f.Values, nil)), "secret")
					}
				case e.Message != nil && !e.Message.Response:
					recorded[e.Message.Call] = append(recorded[e.Message.Call], string(e.Message.Payload))
				}
			}
			for i, messages := range append(want, []string{string(zipped)}) {
				require.Equal(t, messages, recorded[order[i]])
			}

			report, err := replay.Run(within(t), replay.Config{Paths: []string{dir}, Target: echo.addr, Speed: 1, MaxConcurrent: 10, Timeout: testbed.Patience, Trailers: true})
			require.NoError(t, err)
			require.Equal(t, 4, report.Same, "%+v", report)
			require.Equal(t, map[string]int{"OK -> OK": 4}, report.Codes)
			var again []received
			for range 4 {
				again = append(again, echo.await(t))
			}
			byText := func(a, b received) int { return slices.Compare(a.messages, b.messages) }
			slices.SortFunc(sent, byText)
			slices.SortFunc(again, byText)
			for i := range sent {
				require.Equal(t, sent[i].messages, again[i].messages)
				require.Equal(t, sent[i].md["x-tenant"], again[i].md["x-tenant"])
				require.Equal(t, sent[i].md["x-bin"], again[i].md["x-bin"])
				require.Empty(t, again[i].md["authorization"])
			}
		})
	}
}

// compressedCall makes a call with a message in gzip, and returns the message as it is compressed.
func compressedCall(t *testing.T, addr string) []byte {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = w.Write([]byte(strings.Repeat("zipped", 100)))
	require.NoError(t, w.Close())
	c := testbed.DialH2(t, addr)
	s := c.Open(t, testbed.NewFields(":method", "POST", ":scheme", "http", ":path", testbed.Method, ":authority", "a", "content-type", "application/grpc", "te", "trailers", "grpc-encoding", "gzip"))
	s.SendEnd(testbed.Message{Flag: 1, Payload: zipped.Bytes()}.Bytes())
	require.Equal(t, "0", s.Outcome().Trailers.Get("grpc-status"))
	return zipped.Bytes()
}

// A replay against a changed service finds the changes and nothing else, in half of the time with twice the speed.
func TestRecord_ReplayFindsDifferences(t *testing.T) {
	t.Parallel()
	dir, echo := t.TempDir(), newReceiver(t)
	p := testbed.NewProxy(t, route(echo.addr, "frame", taped(dir, "percent: 100")))
	cc := testbed.DialGRPC(t, p.Addr)
	for _, m := range []string{"same", "other message", "other code", "one more"} {
		_, err := makeCall(within(t), t, cc, m)
		require.NoError(t, err)
	}
	s, err := testbed.Call(within(t), cc)
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, testbed.Send(s, []byte("same")))
		_, err = testbed.Recv(s)
		require.NoError(t, err)
		time.Sleep(200 * time.Millisecond) // what is recorded has a duration
	}
	require.NoError(t, s.CloseSend())
	_, err = testbed.Recv(s)
	require.Equal(t, io.EOF, err)
	entriesOf(t, dir, 5)

	changed := testbed.NewRaw(t, func(s grpc.ServerStream) error {
		for {
			m, err := testbed.Recv(s)
			if err != nil {
				return nil
			}
			switch string(m) {
			case "other code":
				return status.Error(codes.NotFound, "gone")
			case "other message":
				m = []byte("another one")
			case "one more":
				_ = testbed.Send(s, m)
			}
			if err := testbed.Send(s, m); err != nil {
				return err
			}
		}
	})
	began := time.Now()
	report, err := replay.Run(within(t), replay.Config{Paths: []string{dir}, Target: changed, Speed: 2, MaxConcurrent: 10, Timeout: testbed.Patience})
	require.NoError(t, err)
	require.Greater(t, time.Since(began), 180*time.Millisecond, "the calls had their timing")
	require.Equal(t, map[string]int{"OK -> OK": 4, "OK -> NOT_FOUND": 1}, report.Codes)
	require.Equal(t, 2, report.Same)
	found := map[string]string{}
	for _, d := range report.Differences {
		found[d.What] = d.Recorded + " | " + d.Now
	}
	require.Equal(t, map[string]string{
		"message #0": `13 bytes: "other message" | 11 bytes: "another one"`, "code": "OK | NOT_FOUND: gone", "messages": "1 | 2",
	}, found)

	pattern, err := spec.ParsePattern("/other.Service/*")
	require.NoError(t, err)
	report, err = replay.Run(within(t), replay.Config{Paths: []string{dir}, Target: changed, Filter: &pattern, MaxConcurrent: 1, Timeout: testbed.Patience})
	require.NoError(t, err)
	require.Zero(t, report.Calls)
	var listed []replay.Recorded
	_, err = replay.List([]string{dir}, nil, func(r replay.Recorded) error {
		listed = append(listed, r)
		return nil
	})
	require.NoError(t, err)
	require.Len(t, listed, 5)
	require.Equal(t, "/test.Raw/Call OK 1 1 8", fmt.Sprint(listed[0].Method, " ", listed[0].Code, " ", listed[0].Requests, " ", listed[0].Responses, " ", listed[0].Bytes))
	require.Greater(t, listed[4].Seconds, 0.39)
}

// A call whose client gives up is recorded as such, and given up again; a replay whose context ends, ends.
func TestRecord_CancelledCalls(t *testing.T) {
	t.Parallel()
	dir, echo := t.TempDir(), newReceiver(t)
	p := testbed.NewProxy(t, route(echo.addr, "frame", taped(dir, "percent: 100")))
	ctx, cancel := contextWithCancel(t)
	s, err := testbed.Call(ctx, testbed.DialGRPC(t, p.Addr))
	require.NoError(t, err)
	require.NoError(t, testbed.Send(s, []byte("m")))
	_, err = testbed.Recv(s)
	require.NoError(t, err)
	cancel()
	for _, e := range entriesOf(t, dir, 1) {
		require.Nil(t, e.HalfClose)
		if e.End != nil {
			require.EqualValues(t, codes.Canceled, e.End.Code, e.End.Message)
		}
	}
	requireCode(t, codes.Canceled, echo.await(t).err)
	report, err := replay.Run(within(t), replay.Config{Paths: []string{dir}, Target: echo.addr, Speed: 1, MaxConcurrent: 10, Timeout: time.Second})
	require.NoError(t, err)
	require.Equal(t, map[string]int{"CANCELLED -> CANCELLED": 1}, report.Codes)
	requireCode(t, codes.Canceled, echo.await(t).err)

	over, stop := context.WithCancel(t.Context())
	stop()
	_, err = replay.Run(over, replay.Config{Paths: []string{dir}, Target: echo.addr, Speed: 1, MaxConcurrent: 10, Timeout: testbed.Patience})
	require.ErrorIs(t, err, context.Canceled)
}

// Only calls with a message that is selected are recorded, and only such messages of their requests.
func TestRecord_Selects(t *testing.T) {
	t.Parallel()
	dir, echo := t.TempDir(), newReceiver(t)
	p := testbed.NewProxy(t, route(echo.addr, "frame", taped(dir, `select: {types: [{field: "1", equals: 2}]}`)))
	cc := testbed.DialGRPC(t, p.Addr)
	one, two := typed(1, "a"), typed(2, "b")
	for _, messages := range [][]string{{one}, {one, two, one}, {two}} {
		_, err := makeCall(within(t), t, cc, messages...)
		require.NoError(t, err)
	}
	requests := 0
	for _, e := range entriesOf(t, dir, 2) {
		if e.Message != nil && !e.Message.Response {
			require.Equal(t, two, string(e.Message.Payload))
			requests++
		}
	}
	require.Equal(t, 2, requests)
	testbed.Poll(t, func() error {
		if st := p.Mirror("tape"); st.State != "up" || st.Calls != 2 {
			return fmt.Errorf("state %+v", st)
		}
		return nil
	})
}

// A directory that cannot be used shows in the mirror's state, and costs calls nothing.
func TestRecord_Nowhere(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	echo := newReceiver(t)
	p := testbed.NewProxy(t, route(echo.addr, "frame", taped(filepath.Join(file, "dir"), "percent: 100")))
	for range 3 {
		_, err := makeCall(within(t), t, testbed.DialGRPC(t, p.Addr), "m")
		require.NoError(t, err)
	}
	testbed.Poll(t, func() error {
		if st := p.Mirror("tape"); st.State != "down" || !strings.Contains(st.Error, "not a directory") {
			return fmt.Errorf("state %+v", st)
		}
		return nil
	})
}
