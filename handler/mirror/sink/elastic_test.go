package sink

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/testcert"
	"github.com/framegate/framegate/test/testlog"
)

func newTestElastic(t testing.TB, doc *spec.Elasticsearch, cfg Config) Sink {
	t.Helper()
	s, err := NewElasticsearch(doc, cfg)
	require.NoError(t, err)
	closing(t, s)
	return s
}

// callIDs returns the ids of n numbered events.
func callIDs(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprint(i))
	}
	return ids
}

func TestElastic_IndexesRecordsInFewRequests(t *testing.T) {
	t.Parallel()
	x := startPlain(t, nil)
	s := newTestElastic(t, x.doc(), Config{})
	offerAll(t, s, 1000)
	st := settled(t, s)
	require.Equal(t, []any{StateUp, "", int64(1000), int64(100_000), int64(0)},
		[]any{st.State, st.Error, st.Delivered, st.DeliveredBytes, st.WaitingBytes})
	require.Empty(t, st.Dropped)
	require.Equal(t, callIDs(1000), x.calls())
	require.Less(t, len(x.requests()), 10)
	for _, d := range x.docs {
		require.Equal(t, []string{spec.Redacted, "gold"}, []string{d.Metadata["authorization"], d.Metadata["x-tenant"]})
		require.Len(t, d.Payload, 100)
	}
}

func TestElastic_KeepsItsConnection(t *testing.T) {
	t.Parallel()
	var connections atomic.Int64
	x := startIndex(t, func(s *httptest.Server) {
		s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				connections.Add(1)
			}
		}
		s.Start()
	}, func(request int, _ []string) reply {
		if request == 3 {
			return reply{status: 429, body: strings.Repeat(" ", 10_000)}
		}
		return reply{}
	})
	s := newTestElastic(t, x.doc(), Config{})
	for i := range 6 {
		for j := range 20 {
			require.True(t, s.Offer(numbered(i*20+j)))
		}
		settled(t, s)
	}
	require.LessOrEqual(t, connections.Load(), int64(2), "one to see whether the server is there, one for the requests")
}

func TestElastic_ASingleRecordDoesNotWaitForOthers(t *testing.T) {
	t.Parallel()
	x := startPlain(t, nil)
	s := newTestElastic(t, x.doc(), Config{Queue: spec.Queue{Bytes: 1 << 30}})
	e := ordinary()
	e.Payload = []byte(strings.Repeat("x", 3<<20)) // more than a request usually has
	require.True(t, s.Offer(e))
	require.True(t, s.Offer(numbered(1)))
	require.EqualValues(t, 2, settled(t, s).Delivered)
	require.Equal(t, []int{1, 1}, x.requests())
}

func TestElastic_CloseDeliversWhatWaits(t *testing.T) {
	t.Parallel()
	x := startPlain(t, nil)
	s := newTestElastic(t, x.doc(), Config{})
	offerAll(t, s, 1000)
	closed := make(chan struct{})
	go func() { s.Close(t.Context()); close(closed) }()
	s.Close(t.Context())
	<-closed
	require.Equal(t, callIDs(1000), x.calls())
	require.False(t, s.Offer(ordinary()))
	require.Equal(t, map[string]int64{ReasonClosed: 1}, s.Stats().Dropped)
}

func TestElastic_AServerThatIsAwayLosesNothingThatFitted(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := newGate(ln)
	x := startIndex(t, func(s *httptest.Server) { s.Listener.Close(); s.Listener = g; s.Start() }, nil)
	var log testlog.Buffer
	s := newTestElastic(t, x.doc(), Config{Queue: spec.Queue{Messages: 500}, Log: log.Logger()})
	require.True(t, s.Offer(numbered(-1)))
	settled(t, s)
	g.shut()
	longest, accepted := slowest(s, 20_000)
	require.Equal(t, 500, accepted)
	require.Less(t, longest, time.Second, "on a machine that does other things, too")
	st := down(t, s, "connection refused")
	require.Equal(t, []any{500, int64(19_500)}, []any{st.Waiting, st.Dropped[ReasonQueueFull]})
	g.open(t)
	st = settled(t, s)
	require.Equal(t, []any{StateUp, int64(501)}, []any{st.State, st.Delivered})
	require.Equal(t, append([]string{"-1"}, callIDs(500)...), x.calls())
	require.Equal(t, 1, log.Count("mirror is down"), log.String())
}

func TestElastic_IsDownBeforeTheFirstEventIfNobodyIsThere(t *testing.T) {
	t.Parallel()
	var log testlog.Buffer
	s := newTestElastic(t, &spec.Elasticsearch{URLs: []string{"http://" + nobody(t), "http://" + nobody(t)}, Index: "calls"}, Config{Log: log.Logger()})
	down(t, s, "connection refused")
	time.Sleep(time.Second) // for more attempts
	require.Equal(t, 1, log.Count("\n"), log.String())
	begin := time.Now()
	s.Close(context.Background())
	require.Less(t, time.Since(begin), patience/2, "there is nothing to wait for")
}

func TestElastic_IsUpWhenAServerComes(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := newGate(ln)
	defer g.Close()
	g.shut()
	s := newTestElastic(t, &spec.Elasticsearch{URLs: []string{"http://" + ln.Addr().String()}, Index: "calls"}, Config{})
	down(t, s, "")
	g.open(t)
	eventually(t, s, func(st Stats) bool { return st.State == StateUp })
}

func TestElastic_CloseEndsWithItsContextIfNobodyIsThere(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	for name, address := range map[string]string{"refused": nobody(t), "silent": silent.Addr().String()} {
		t.Run(name, func(t *testing.T) { // the listener must not be closed before
			s := newTestElastic(t, &spec.Elasticsearch{URLs: []string{"http://" + address}, Index: "calls"}, Config{})
			offerAll(t, s, 100)
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			s.Close(ctx)
			require.Error(t, ctx.Err(), "it waits as long as it may")
			st := s.Stats()
			require.Equal(t, []any{0, int64(0), int64(0)}, []any{st.Waiting, st.WaitingBytes, st.Delivered})
			require.Equal(t, map[string]int64{ReasonClosed: 100}, st.Dropped)
		})
	}
}

func TestElastic_CloseDoesNotWaitForAConnectionThatNobodyNeeds(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	s := newTestElastic(t, &spec.Elasticsearch{URLs: []string{"https://" + silent.Addr().String()}, Index: "calls"}, Config{})
	begin := time.Now()
	s.Close(context.Background())
	require.Less(t, time.Since(begin), dialTimeout/2)
}

func TestElastic_UsesAnotherURLIfOneIsAway(t *testing.T) {
	t.Parallel()
	x := startPlain(t, nil)
	doc := x.doc()
	doc.URLs = append([]string{"http://" + nobody(t)}, doc.URLs...)
	s := newTestElastic(t, doc, Config{})
	for i := range 5 {
		require.True(t, s.Offer(numbered(i)))
		settled(t, s)
	}
	require.Equal(t, callIDs(5), x.calls())
}

func TestElastic_AServerThatIsNoElasticsearchIsDown(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer other.Close()
	for _, c := range []struct{ url, want string }{{srv.URL, "status 404 Not Found"}, {other.URL, "not Elasticsearch"}} {
		s, err := NewElasticsearch(&spec.Elasticsearch{URLs: []string{c.url}, Index: "calls"}, Config{})
		require.NoError(t, err)
		require.True(t, s.Offer(ordinary()))
		down(t, s, c.want)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s.Close(ctx)
	}
}

// A file is read when it is needed, so whoever corrects it need not restart anything, and what waits meanwhile is delivered.
func TestElastic_IsDownWhileAFileIsMissingOrWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(t *testing.T, doc *spec.Elasticsearch) (repair func())
		first bool // whether it shows before there is something to deliver
		want  string
	}{
		"nothing": {func(*testing.T, *spec.Elasticsearch) func() { return nil }, false, ""},
		"no key":  {func(t *testing.T, doc *spec.Elasticsearch) func() { return move(t, doc.APIKeyFile) }, true, "API key file: open"},
		"wrong key": {func(t *testing.T, doc *spec.Elasticsearch) func() {
			require.NoError(t, os.WriteFile(doc.APIKeyFile, []byte("wrong"), 0o600))
			return func() { require.NoError(t, os.WriteFile(doc.APIKeyFile, []byte("key=="), 0o600)) }
		}, false, "status 401 Unauthorized"},
		"no CA": {func(t *testing.T, doc *spec.Elasticsearch) func() { return move(t, doc.CAFile) }, true, "CA file: open"},
		"another CA": {func(t *testing.T, doc *spec.Elasticsearch) func() {
			right := doc.CAFile
			doc.CAFile = testcert.NewAuthority(t, t.TempDir()).File
			return func() { require.NoError(t, os.Rename(right, doc.CAFile)) }
		}, true, "certificate signed by unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			ca := testcert.NewAuthority(t, dir)
			cert, err := tls.LoadX509KeyPair(ca.Issue(t, dir, "elastic"))
			require.NoError(t, err)
			x := startIndex(t, func(s *httptest.Server) {
				s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
				s.StartTLS()
			}, nil)
			x.key = "key=="
			doc := x.doc()
			doc.CAFile, doc.APIKeyFile = ca.File, filepath.Join(dir, "key")
			require.NoError(t, os.WriteFile(doc.APIKeyFile, []byte("key==\n"), 0o600))
			repair := c.spoil(t, doc)
			s := newTestElastic(t, doc, Config{})
			if c.first {
				down(t, s, c.want)
			}
			offerAll(t, s, 10)
			if c.want != "" {
				down(t, s, c.want)
				require.Equal(t, 10, s.Stats().Waiting)
				repair()
			}
			require.EqualValues(t, 10, settled(t, s).Delivered)
			require.Equal(t, StateUp, s.Stats().State)
			require.Equal(t, callIDs(10), x.calls())
		})
	}
}
