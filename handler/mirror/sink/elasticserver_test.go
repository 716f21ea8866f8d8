package sink

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/spec"
)

// index is a server with an index "calls", which checks each bulk request.
type index struct {
	*httptest.Server
	t   testing.TB
	key string // API key that is wanted; "" for none

	mu       sync.Mutex // guards what follows
	docs     map[string]wanted
	order    []string // ids of calls, as they were indexed
	conflict int      // documents that came again
	bulks    []int    // the number of documents of each request
	script   func(request int, docs []string) reply
}

// reply says what the server does with a request; the zero value indexes each document.
type reply struct {
	status  int               // of the response; 0 for 200
	body    string            // instead of the usual one
	items   map[string]failed // by id of the call: documents that are not indexed
	indexed bool              // although status or reset say that it failed
	reset   bool              // the connection ends without a response
	delay   time.Duration
}

// failed is the answer for a document.
type failed struct {
	status int
	kind   string
}

func startIndex(t testing.TB, start func(*httptest.Server), script func(request int, docs []string) reply) *index {
	x := &index{t: t, docs: map[string]wanted{}, script: script}
	x.Server = httptest.NewUnstartedServer(x)
	x.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that do not like its certificate
	start(x.Server)
	t.Cleanup(x.Close)
	return x
}

// startPlain starts an index over http. script may be nil.
func startPlain(t testing.TB, script func(request int, docs []string) reply) *index {
	return startIndex(t, (*httptest.Server).Start, script)
}

func (x *index) doc() *spec.Elasticsearch {
	return &spec.Elasticsearch{URLs: []string{x.URL}, Index: "calls"}
}

var action = regexp.MustCompile(`^\{"create":\{"_id":"([A-Za-z0-9_-]{18,30})"\}\}$`)

// ServeHTTP answers as Elasticsearch 8 does. What a request has wrong is an error of the test.
func (x *index) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fail := func(format string, args ...any) {
		x.t.Errorf("%s %s: %s", r.Method, r.URL, fmt.Sprintf(format, args...))
		w.WriteHeader(http.StatusTeapot)
	}
	body, err := io.ReadAll(r.Body)
	switch {
	case err != nil:
		return // the sink was closed
	case r.Method != http.MethodPost || r.URL.Path != "/calls/_bulk":
		fail("want POST /calls/_bulk")
		return
	case r.Header.Get("Content-Type") != "application/x-ndjson":
		fail("content type %q", r.Header.Get("Content-Type"))
		return
	case !bytes.HasSuffix(body, []byte("\n")):
		fail("the body does not end in a line break")
		return
	case x.key == "" && r.Header.Get("Authorization") != "":
		fail("a key")
		return
	}
	w.Header().Set("X-Elastic-Product", "Elasticsearch")
	w.Header().Set("Content-Type", "application/json")
	if x.key != "" && r.Header.Get("Authorization") != "ApiKey "+x.key {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"error":{"type":"security_exception","reason":"wrong key"},"status":401}`)
		return
	}
	lines := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	if len(lines)%2 != 0 {
		fail("%d lines, want pairs", len(lines))
		return
	}
	var ids, calls []string
	var docs []wanted
	for i := 0; i < len(lines); i += 2 {
		m := action.FindStringSubmatch(lines[i])
		if m == nil {
			fail("action line %q", lines[i])
			return
		}
		d := decode(x.t, []byte(lines[i+1]))
		if d.Timestamp == nil || !d.Timestamp.Equal(d.Time) {
			fail("no @timestamp, which data streams want: %q", lines[i+1])
			return
		}
		ids, calls, docs = append(ids, m[1]), append(calls, d.ID), append(docs, d)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.bulks = append(x.bulks, len(docs))
	var p reply
	if x.script != nil {
		p = x.script(len(x.bulks), calls)
	}
	time.Sleep(p.delay)
	var items []string
	for i, id := range ids {
		items = append(items, fmt.Sprintf(`{"create":{"_index":"calls","_id":%q,%s}}`, id, x.createLocked(id, docs[i], p)))
	}
	if p.reset {
		conn, _, err := http.NewResponseController(w).Hijack()
		require.NoError(x.t, err)
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
		return
	}
	if p.status != 0 {
		w.WriteHeader(p.status)
	}
	if p.body == "" {
		p.body = fmt.Sprintf(`{"took":1,"errors":%t,"items":[%s]}`, len(p.items) > 0, strings.Join(items, ","))
	}
	_, _ = io.WriteString(w, p.body)
}

// createLocked creates a document, and returns what the response says of it.
func (x *index) createLocked(id string, d wanted, p reply) string {
	switch f, fails := p.items[d.ID]; {
	case fails:
		return fmt.Sprintf(`"status":%d,"error":{"type":%q,"reason":"document of call %s"}`, f.status, f.kind, d.ID)
	case (p.status != 0 || p.reset) && !p.indexed:
		return `"status":201`
	}
	if _, ok := x.docs[id]; ok {
		x.conflict++
		return `"status":409,"error":{"type":"version_conflict_engine_exception","reason":"document already exists"}`
	}
	x.docs[id] = d
	x.order = append(x.order, d.ID)
	return `"_version":1,"result":"created","status":201`
}

// calls returns the ids of the calls that are in the index, in the order in which they came.
func (x *index) calls() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append([]string(nil), x.order...)
}

// requests returns how many documents each request had.
func (x *index) requests() []int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append([]int(nil), x.bulks...)
}

// wholeError is the body of a response that is an error.
func wholeError(status int, kind string) string {
	b, _ := json.Marshal(map[string]any{"error": map[string]any{"type": kind, "reason": "for a test"}, "status": status})
	return string(b)
}
