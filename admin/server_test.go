package admin

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/test/testlog"
)

func TestServer_SaysWhetherItLivesAndIsReady(t *testing.T) {
	var draining atomic.Bool
	c := startAPI(t, Config{Ready: func() error {
		if draining.Load() {
			return errors.New("draining")
		}
		return nil
	}})
	for _, k := range []struct {
		draining bool
		path     string
		code     int
		body     string
	}{
		{false, "/healthz", 200, `{"status":"ok"}`},
		{false, "/readyz", 200, `{"status":"ready"}`},
		{true, "/healthz", 200, `{"status":"ok"}`},
		{true, "/readyz", 503, `{"status":"not ready","reason":"draining"}`},
		{true, "/healthz?probe=1", 200, `{"status":"ok"}`},
	} {
		draining.Store(k.draining)
		a := c.do("GET", k.path, "")
		require.Equal(t, k.code, a.code, k.path)
		require.JSONEq(t, k.body, a.body, k.path)
	}
	c.server.Close()
	c.server.Close()
	_, err := http.Get("http://" + c.server.Addr().String() + "/healthz")
	require.Error(t, err)
}

func TestServer_TellsWhyItIsNotReadyToTheTrustedAlone(t *testing.T) {
	c := startAPI(t, Config{Token: "s3cret", Ready: func() error { return errors.New("dial tcp 10.0.0.7:2379: connection refused") }})
	for _, given := range []string{"", "Bearer s3cre", "s3cret"} {
		a := c.do("GET", "/readyz", "", header("Authorization", given))
		require.Equal(t, 503, a.code)
		require.JSONEq(t, `{"status":"not ready"}`, a.body)
	}
	a := c.do("GET", "/readyz", "", header("Authorization", "Bearer s3cret"))
	require.Equal(t, 503, a.code)
	require.JSONEq(t, `{"status":"not ready","reason":"dial tcp 10.0.0.7:2379: connection refused"}`, a.body)
}

func TestServer_LogsThatItEndedByItself(t *testing.T) {
	var log testlog.Buffer
	c := startAPI(t, Config{Log: log.Logger()})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	c.server.serve(ln)
	require.Contains(t, log.String(), "level=ERROR msg=\"the admin server has ended")
	require.Contains(t, log.String(), ln.Addr().String())
	require.Equal(t, 200, c.do("GET", "/healthz", "").code)
	c.server.Close()
	require.Equal(t, 1, strings.Count(log.String(), "has ended"), "Close is no accident")
}

func TestServer_WithNothingInItSaysSo(t *testing.T) {
	c := startAPI(t, Config{})
	require.Equal(t, 200, c.do("GET", "/readyz", "").code)
	for _, path := range []string{"/metrics", "/v1/routes", "/v1/routes/a", "/v1/explain?method=/a.S/M", "/v1/services", "/v1/services/a", "/v1/endpoints", "/v1/config"} {
		require.Contains(t, c.fails(501, reasonNotProvided, "GET", path, ""), "not provided by this framegate")
	}
	for _, path := range []string{"/v1/routes/echo", "/v1/services/echo/instances/127.0.0.1:1"} {
		c.fails(501, reasonNoEtcd, "DELETE", path, "")
	}
	c.fails(501, reasonNoEtcd, "PUT", "/v1/services/echo/instances/127.0.0.1:1", "")
	require.Contains(t, c.fails(501, reasonNoEtcd, "PUT", "/v1/routes/echo", echoRoute), "without etcd")
	c.fails(404, reasonNotFound, "GET", "/debug/pprof/", "")
}

func TestServer_ErrorsAreJSON(t *testing.T) {
	c := startAPI(t, Config{Control: Control{
		Routes: func() []resolver.RouteStatus { panic("a bug") },
		Config: func() ([]byte, error) { return nil, errors.New("disk on fire") },
	}})
	require.Contains(t, c.fails(404, reasonNotFound, "GET", "/other", ""), `path: "/other", want one of those in /v1/openapi.json`)
	c.fails(404, reasonNotFound, "GET", "/v1/routes/", "")
	c.fails(404, reasonNotFound, "POST", "/", "{}")
	a := c.do("POST", "/v1/routes/echo", "{}")
	require.Equal(t, 405, a.code)
	require.Equal(t, "DELETE, GET, PUT, HEAD", a.header.Get("Allow"))
	_, message := a.reason(t)
	require.Equal(t, `method: "POST", want DELETE or GET or PUT or HEAD`, message)
	c.fails(405, reasonMethodNotAllowed, "DELETE", "/healthz", "")
	c.fails(405, reasonMethodNotAllowed, "OPTIONS", "/v1/routes", "")
	require.Equal(t, `query: "x", want none`, c.fails(400, reasonBadParameter, "GET", "/v1/endpoints?x=1", ""))
	require.Equal(t, `query: "headers", want one of: method, listener, authority, header`, c.fails(400, reasonBadParameter, "GET", "/v1/explain?method=/a.S/M&headers=a:b", ""))
	big := strings.Repeat("#", maxBodyBytes+1)
	require.Equal(t, "body: want at most 1048576 bytes", c.fails(413, reasonTooLarge, "PUT", "/v1/routes/echo", big))
	c.fails(413, reasonTooLarge, "PUT", "/v1/services/echo/instances/127.0.0.1:1", big)
	for _, put := range []string{"/v1/routes/echo", "/v1/services/echo/instances/127.0.0.1:1"} {
		require.Contains(t, c.fails(415, reasonUnsupportedMediaType, "PUT", put, "{}", header("Content-Type", "application/x-www-form-urlencoded")), `content-type: "application/x-www-form-urlencoded", want application/yaml or`)
		c.fails(415, reasonUnsupportedMediaType, "PUT", put, "{}", header("Content-Type", "nonsense/"))
		require.Equal(t, `content-encoding: "gzip", want none`, c.fails(415, reasonUnsupportedMediaType, "PUT", put, "{}", header("Content-Encoding", "gzip")))
	}
}

func TestServer_FailuresAreLoggedAndNotTold(t *testing.T) {
	var log testlog.Buffer
	c := startAPI(t, Config{Log: log.Logger(), Control: Control{
		Routes: func() []resolver.RouteStatus { panic("a bug") },
		Config: func() ([]byte, error) { return nil, errors.New("disk on fire") },
	}})
	for path, logged := range map[string]string{"/v1/routes": "a bug", "/v1/config": "disk on fire"} {
		require.Equal(t, "it is in the log of framegate", c.fails(500, reasonInternal, "GET", path, ""))
		require.Contains(t, log.String(), logged)
	}
	require.Contains(t, log.String(), "server_test.go", "the stack")
	require.Equal(t, 200, c.do("GET", "/healthz", "").code, "it goes on")
}

func TestServer_HeadIsGetWithoutABody(t *testing.T) {
	c := startAPI(t, Config{})
	a := c.do("HEAD", "/healthz", "")
	require.Equal(t, 200, a.code)
	require.Empty(t, a.body)
}

func TestServer_CloseEndsRequestsAndWaitsForThem(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	c := startAPI(t, Config{Metrics: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		time.Sleep(50 * time.Millisecond) // it has something to clean up
		close(ended)
	})})
	var asking sync.WaitGroup
	asking.Go(func() {
		resp, err := http.Get("http://" + c.server.Addr().String() + "/metrics")
		if err == nil {
			resp.Body.Close()
		}
	})
	<-began
	c.server.Close()
	select {
	case <-ended:
	default:
		t.Error("Close returned before the request had ended")
	}
	asking.Wait()
}

func TestListen_AddressInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	_, err = Listen(ln.Addr().String(), "")
	require.ErrorContains(t, err, "address already in use")
}
