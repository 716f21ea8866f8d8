package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/framegate/framegate/resolver/plain"
)

// handle answers a request. If it returns an error, it has written nothing of an answer.
type handle func(w http.ResponseWriter, r *http.Request) error

// endpoint is one path of the API.
type endpoint struct {
	path    string // pattern of http.ServeMux, without a method
	methods map[string]handle
	query   []string // names of the query parameters; any other is answered with 400
	open    bool     // ignores unknown parameters: probes, scrapers and pprof clients send their own
}

// endpoints returns every path of the API. The handlers of a resource are methods of a type that has what they need; those
// that need nothing are functions. The functions in these types are those of Config and Control: any may be nil.
func (s *Server) endpoints() []endpoint {
	c, work := &s.cfg.Control, s.work
	status := &statusAPI{ready: s.cfg.Ready, metrics: s.cfg.Metrics, config: c.Config, guard: s.guard}
	routes := &routesAPI{
		routes: c.Routes, source: c.Source, bypasses: c.Bypasses, unreachableHealth: c.UnreachableHealth, store: c.RouteStore,
		work: work, log: s.log,
	}
	explain := &explainAPI{explain: c.Explain}
	schemas := &schemasAPI{schemas: c.Schemas}
	tap := &tapAPI{open: c.Tap, work: work, log: s.log}
	services := &servicesAPI{instances: c.Instances, kept: c.Kept, refused: c.Refused, store: c.ServiceStore, work: work, log: s.log}
	endpoints := &endpointsAPI{endpoints: c.Endpoints, groups: c.Clusters}
	mirrors := &mirrorsAPI{mirrors: c.Mirrors}
	drain := &drainAPI{drain: c.Drain}
	all := []endpoint{
		{path: "/healthz", methods: map[string]handle{"GET": healthz}, open: true},
		{path: "/readyz", methods: map[string]handle{"GET": status.readyz}, open: true},
		{path: "/metrics", methods: map[string]handle{"GET": work.large(status.getMetrics)}, open: true},
		{path: "/v1/routes", methods: map[string]handle{"GET": work.large(routes.list)}},
		{path: "/v1/routes/{name}", methods: map[string]handle{"GET": routes.get, "PUT": routes.put, "DELETE": routes.delete}, query: []string{"dry_run"}},
		{path: "/v1/explain", methods: map[string]handle{"GET": work.large(explain.get)}, query: []string{"method", "listener", "authority", "header"}},
		{path: "/v1/schemas", methods: map[string]handle{"GET": work.large(schemas.list)}},
		{path: "/v1/tap", methods: map[string]handle{"GET": tap.stream}, query: []string{"method", "where", "rate", "count"}},
		{path: "/v1/services", methods: map[string]handle{"GET": work.large(services.list)}},
		{path: "/v1/services/{name}", methods: map[string]handle{"GET": work.large(services.get)}},
		{path: "/v1/services/{name}/instances/{address}", methods: map[string]handle{"PUT": services.putInstance, "DELETE": services.deleteInstance}},
		{path: "/v1/endpoints", methods: map[string]handle{"GET": work.large(endpoints.list)}},
		{path: "/v1/mirrors", methods: map[string]handle{"GET": work.large(mirrors.list)}},
		{path: "/v1/mirrors/{name}/differences", methods: map[string]handle{"GET": work.large(mirrors.differences)}},
		{path: "/v1/drain", methods: map[string]handle{"POST": drain.start}},
		{path: "/v1/config", methods: map[string]handle{"GET": work.large(status.getConfig)}},
		{path: "/v1/openapi.json", methods: map[string]handle{"GET": openAPI}},
	}
	if s.cfg.Pprof {
		all = append(all,
			endpoint{path: "/debug/pprof/{$}", methods: map[string]handle{"GET": pprofIndex}, open: true},
			endpoint{path: "/debug/pprof/{profile}", methods: map[string]handle{"GET": pprofProfile}, open: true},
		)
	}
	return all
}

// handler returns the handler of every request: the guard decides first, then the endpoint of the path answers.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for _, e := range s.endpoints() {
		mux.HandleFunc(e.path, func(w http.ResponseWriter, r *http.Request) {
			if err := s.dispatch(e, w, r); err != nil {
				s.fail(w, r, err)
			}
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.fail(w, r, noPath(r)) })
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !s.begin() {
			panic(http.ErrAbortHandler) // after Close: net/http closes the connection without an answer
		}
		defer s.active.Done()
		w := &writer{ResponseWriter: rw}
		defer s.recover(w, r)
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		switch err := s.guard.check(r); {
		case err != nil:
			refuse(rw)
			s.fail(w, r, err)
		case !strings.HasPrefix(r.URL.Path, "/"): // CONNECT, OPTIONS *
			s.fail(w, r, noPath(r))
		default:
			if !isProbe(r.URL.Path) {
				letIn(r)
			}
			limitBody(rw, r)
			mux.ServeHTTP(w, r)
		}
	})
}

// refuse prepares the answer to a request that the guard refuses: the connection is closed after it, and net/http waits at
// most refusedTimeout for the rest of the request.
func refuse(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(refusedTimeout)) // both fail only on connections without deadlines
	_ = rc.SetWriteDeadline(time.Now().Add(refusedTimeout))
}

func noPath(r *http.Request) error {
	return notFound("path: %q, want one of those in /v1/openapi.json", r.URL.Path)
}

func (s *Server) dispatch(e endpoint, w http.ResponseWriter, r *http.Request) error {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet // net/http drops the body
	}
	h := e.methods[method]
	if h == nil {
		allow := slices.Sorted(maps.Keys(e.methods))
		if e.methods[http.MethodGet] != nil {
			allow = append(allow, http.MethodHead)
		}
		w.Header().Set("Allow", strings.Join(allow, ", "))
		return &problem{status: http.StatusMethodNotAllowed, Reason: reasonMethodNotAllowed, Message: fmt.Sprintf("method: %q, want %s", r.Method, strings.Join(allow, " or "))}
	}
	if !e.open {
		if err := checkQuery(r, e.query); err != nil {
			return err
		}
	}
	return h(w, r)
}

// checkQuery refuses every query parameter but the known ones, because a misspelt one would be ignored otherwise.
func checkQuery(r *http.Request, known []string) error {
	for _, name := range slices.Sorted(maps.Keys(r.URL.Query())) {
		if slices.Contains(known, name) {
			continue
		}
		if len(known) == 0 {
			return badParameter("query: %q, want none", name)
		}
		return badParameter("query: %q, want one of: %s", name, strings.Join(known, ", "))
	}
	return nil
}

// queryValue returns the value of a query parameter, or "" if it is absent. More than one value is an error.
func queryValue(r *http.Request, name string) (string, error) {
	values := r.URL.Query()[name]
	if len(values) > 1 {
		return "", badParameter("%s: given %d times, want once", name, len(values))
	}
	return strings.Join(values, ""), nil
}

func queryBool(r *http.Request, name string) (bool, error) {
	v, err := queryValue(r, name)
	if err != nil || v == "" {
		return false, err
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, badParameter("%s: %q, want true or false", name, v)
	}
	return b, nil
}

// etcdContext returns the request's context, bounded by etcdTimeout, for what the request asks of etcd.
func etcdContext(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), etcdTimeout)
}

// writeJSON answers with v in JSON. If v cannot be encoded, it returns an error and has written nothing.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(plain.JSON(b.Bytes())) // its error: the client has gone
	return nil
}

// writer is a ResponseWriter that remembers whether the answer has begun.
type writer struct {
	http.ResponseWriter
	begun bool
}

func (w *writer) WriteHeader(status int) {
	w.begun = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(p []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(p)
}

// Unwrap gives http.ResponseController the writer of net/http.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// recover is deferred: it answers 500 for a handler that panicked, or aborts the connection if the answer has begun.
func (s *Server) recover(w *writer, r *http.Request) {
	v := recover()
	if v == nil || v == http.ErrAbortHandler {
		return
	}
	s.log.Error("admin request panicked", "method", r.Method, "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
	if w.begun {
		panic(http.ErrAbortHandler)
	}
	s.fail(w, r, &problem{status: http.StatusInternalServerError, Reason: reasonInternal, Message: "it is in the log of framegate"})
}

// limitBody bounds the size of a request's body and the time to read it. Bodies that no handler reads are bounded too,
// because net/http reads them to their end. w must be net/http's ResponseWriter, which MaxBytesReader tells to close the
// connection.
func limitBody(w http.ResponseWriter, r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readBodyTimeout)) // fails only on connections without deadlines
}
