package admin

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestServer_SaysWhetherItLivesAndIsReady(t *testing.T) {
	var draining atomic.Bool
	s, err := Start("127.0.0.1:0", func() error {
		if draining.Load() {
			return errors.New("draining")
		}
		return nil
	})
	require.NoError(t, err)
	defer s.Close()
	get := func(path string) (int, string) {
		r, err := http.Get("http://" + s.Addr().String() + path)
		require.NoError(t, err)
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		return r.StatusCode, string(body)
	}
	for _, c := range []struct {
		draining bool
		path     string
		code     int
		body     string
	}{
		{false, "/healthz", 200, `{"status":"ok"}`},
		{false, "/readyz", 200, `{"status":"ready"}`},
		{true, "/healthz", 200, `{"status":"ok"}`},
		{true, "/readyz", 503, `{"status":"not ready","reason":"draining"}`},
	} {
		draining.Store(c.draining)
		code, body := get(c.path)
		require.Equal(t, c.code, code, c.path)
		require.JSONEq(t, c.body, body, c.path)
	}
	code, _ := get("/other")
	require.Equal(t, 404, code)
	s.Close()
	s.Close()
	_, err = http.Get("http://" + s.Addr().String() + "/healthz")
	require.Error(t, err)
}
