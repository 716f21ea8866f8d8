package admin

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/etcdserver"
	"github.com/framegate/framegate/resolver/etcdsource"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/leak"
)

func TestMain(m *testing.M) {
	klog.SetLevel(klog.LevelFatal)
	leak.Main(m, 8)
}

// eventually polls until ok, for at most 30 s: a source notices that etcd is away after about 10.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("not within 30s: %s", what)
		}
	}
}

// client asks a server, and holds every answer against the OpenAPI document.
type client struct {
	t      *testing.T
	server *Server
	doc    *openapi3.T
	router routers.Router
}

// startAPI runs a server on a free port of 127.0.0.1 until the test ends.
func startAPI(t *testing.T, cfg Config) *client {
	t.Helper()
	return startAPIAt(t, "127.0.0.1:0", cfg)
}

// startAPIAt is startAPI on another address.
func startAPIAt(t *testing.T, address string, cfg Config) *client {
	t.Helper()
	ln, err := Listen(address, cfg.Token)
	require.NoError(t, err)
	s := Start(ln, cfg)
	t.Cleanup(s.Close)
	doc := loadDocument(t)
	router, err := gorillamux.NewRouter(doc)
	require.NoError(t, err)
	openapi3filter.RegisterBodyDecoder("text/html", openapi3filter.PlainBodyDecoder)
	openapi3filter.RegisterBodyDecoder("text/yaml", openapi3filter.YamlBodyDecoder)
	return &client{t: t, server: s, doc: doc, router: router}
}

func loadDocument(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(openAPIDocument)
	require.NoError(t, err)
	require.NoError(t, doc.Validate(t.Context()))
	return doc
}

// answer is what came back.
type answer struct {
	code   int
	header http.Header
	body   string
}

// reason returns the reason of an error and its message.
func (a answer) reason(t *testing.T) (reason, message string) {
	t.Helper()
	var e struct {
		Error problem `json:"error"`
	}
	require.NoError(t, json.Unmarshal([]byte(a.body), &e), a.body)
	return e.Error.Reason, e.Error.Message
}

// into decodes the body.
func (a answer) into(t *testing.T, v any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(a.body))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(v), a.body)
}

// edit changes a request before it is sent.
type edit func(*http.Request)

func header(name, value string) edit {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func host(h string) edit { return func(r *http.Request) { r.Host = h } }

func (c *client) request(method, path, body string, edits ...edit) *http.Request {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, "http://"+c.server.Addr().String()+path, strings.NewReader(body))
	require.NoError(c.t, err)
	if body == "" {
		r.Body, r.GetBody, r.ContentLength = http.NoBody, nil, 0
	}
	for _, e := range edits {
		e(r)
	}
	return r
}

// do sends a request and validates the answer; of a request that was taken, it validates that too.
func (c *client) do(method, path, body string, edits ...edit) answer {
	c.t.Helper()
	resp, err := http.DefaultClient.Do(c.request(method, path, body, edits...))
	require.NoError(c.t, err)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	a := answer{resp.StatusCode, resp.Header, string(got)}
	if method != http.MethodHead {
		c.validate(c.request(method, path, body, edits...), a)
	}
	return a
}

func (c *client) validate(r *http.Request, a answer) {
	c.t.Helper()
	what := r.Method + " " + r.URL.String() + ": " + a.body
	if a.code == http.StatusMethodNotAllowed {
		r.Method, _, _ = strings.Cut(a.header.Get("Allow"), ",") // the error is described beside what would be allowed
	}
	route, params, err := c.router.FindRoute(r)
	if err != nil { // of no path in the document: it must be an error all the same
		require.GreaterOrEqual(c.t, a.code, 400, what)
		require.NoError(c.t, c.validateError(a), what)
		return
	}
	for k, v := range params {
		params[k], err = url.PathUnescape(v)
		require.NoError(c.t, err)
	}
	if r.ContentLength > 0 && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", documentTypes[0]) // what saying nothing means
	}
	in := &openapi3filter.RequestValidationInput{
		Request: r, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, RejectWhenRequestBodyNotSpecified: true, SkipSettingDefaults: true},
	}
	if a.code < 400 {
		require.NoError(c.t, openapi3filter.ValidateRequest(c.t.Context(), in), what)
	}
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: a.code, Header: a.header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	require.NoError(c.t, openapi3filter.ValidateResponse(c.t.Context(), out.SetBodyBytes([]byte(a.body))), what)
	if a.code >= 400 && r.URL.Path != "/readyz" {
		require.NoError(c.t, c.validateError(a), what)
	}
}

func (c *client) validateError(a answer) error {
	var v any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		return err
	}
	return c.doc.Components.Schemas["Error"].Value.VisitJSON(v)
}

// fails sends a request that must fail, and returns the message.
func (c *client) fails(code int, reason, method, path, body string, edits ...edit) string {
	c.t.Helper()
	a := c.do(method, path, body, edits...)
	require.Equal(c.t, code, a.code, a.body)
	got, message := a.reason(c.t)
	require.Equal(c.t, reason, got, a.body)
	require.Equal(c.t, "application/json", a.header.Get("Content-Type"))
	return message
}

// etcd is a real etcd, with a resolver that follows it and the stores that change it.
type etcd struct {
	server   *etcdserver.Server
	resolver *resolver.Resolver
	source   *etcdsource.Source
	routes   *etcdstore.Routes
	services *etcdstore.Services
	schemas  *etcdstore.Schemas
}

func startEtcd(t *testing.T) *etcd {
	t.Helper()
	server, err := etcdserver.Start(t.Context(), etcdserver.Config{Dir: t.TempDir(), Address: "127.0.0.1:0"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	e := follow(t, server.Endpoint())
	e.server = server
	select {
	case <-e.source.Ready():
	case <-time.After(30 * time.Second):
		t.Fatal("the source is not ready within 30s")
	}
	return e
}

// follow follows the etcd at an endpoint, which need not be there.
func follow(t *testing.T, endpoint string) *etcd {
	t.Helper()
	config := etcdclient.Config{Endpoints: []string{endpoint}}
	cli, err := etcdclient.New(config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = cli.Close() })
	e := &etcd{
		resolver: resolver.New(),
		routes:   etcdstore.NewRoutes(cli, etcdstore.DefaultPrefix, structmode.CompileRoute),
		services: etcdstore.NewServices(cli, etcdstore.DefaultServicePrefix),
		schemas:  etcdstore.NewSchemas(cli, etcdstore.DefaultPrefix, structmode.CompileRoute),
	}
	follow := etcdsource.Config{Client: config, Prefix: etcdstore.DefaultPrefix, ServicePrefix: etcdstore.DefaultServicePrefix, Compile: structmode.CompileRoute}
	e.source = etcdsource.New(follow, e.resolver, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { e.source.Run(ctx) })
	t.Cleanup(wg.Wait)
	t.Cleanup(cancel)
	return e
}

// control is what a gateway supplies.
func (e *etcd) control() Control {
	return Control{
		Routes:    e.source.Routes,
		Source:    e.source.Status,
		Instances: e.resolver.Instances,
		Explain: func(req spec.Request) (resolver.Explanation, cluster.Target, bool) {
			target, ok := e.resolver.Preview(req)
			return e.resolver.Explain(req), target, ok
		},
		Bypasses:     e.resolver.Bypasses,
		RouteStore:   func() (*etcdstore.Routes, error) { return e.routes, nil },
		ServiceStore: func() (ServiceStore, error) { return e.services, nil },
	}
}

// nobody is an address where nothing listens.
func nobody(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().String()
}
