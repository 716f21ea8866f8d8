package admin

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// openIdle opens n connections to the server and sends each the beginning of a request. One that is nil was refused at
// once.
func openIdle(t *testing.T, c *client, n int, begin string) []net.Conn {
	t.Helper()
	all := make([]net.Conn, n)
	for i := range all {
		nc, err := net.Dial("tcp", c.server.Addr().String())
		if err != nil {
			require.ErrorIs(t, err, syscall.ECONNRESET)
			continue
		}
		t.Cleanup(func() { _ = nc.Close() })
		_, _ = io.WriteString(nc, begin) // it may be closed for another already
		all[i] = nc
	}
	return all
}

// isClosed waits until the server has closed the connection, and fails if it does not.
func isClosed(t *testing.T, nc net.Conn) {
	t.Helper()
	if nc == nil {
		return
	}
	require.NoError(t, nc.SetReadDeadline(time.Now().Add(30*time.Second)))
	_, err := nc.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "closed, not left alone")
}

// alone asks over a connection of its own.
func alone(t *testing.T) *http.Client {
	tr := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

// Whoever opens connections without asking anything that may be answered keeps nobody out.
func TestServer_ConnectionsThatAskNothingKeepNobodyOut(t *testing.T) {
	for name, begin := range map[string]string{
		"silent":             "",
		"half a header":      "GET /v1/routes HTTP/1.1\r\nHost: localhost\r\n",
		"no token":           "GET /v1/routes HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"no token, no body":  "PUT /v1/routes/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n",
		"probes":             "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"probes with a body": "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := startAPI(t, Config{Token: "s3cret", MaxConnections: 8})
			openIdle(t, c, 60, begin)
			for range 20 {
				resp, err := alone(t).Get("http://" + c.server.Addr().String() + "/healthz")
				require.NoError(t, err)
				resp.Body.Close()
				require.Equal(t, 200, resp.StatusCode)
			}
		})
	}
}

func TestServer_HasABoundOfConnections(t *testing.T) {
	c := startAPI(t, Config{Token: "s3cret", MaxConnections: 8})
	for _, nc := range openIdle(t, c, 60, "")[:52] { // all but those that came last
		isClosed(t, nc)
	}
}

// A request that is being answered is not given up for a new connection.
func TestServer_RequestsUnderWayStay(t *testing.T) {
	const most = 4
	answer := make(chan struct{})
	release := sync.OnceFunc(func() { close(answer) })
	defer release()
	var asked sync.WaitGroup
	asked.Add(most)
	c := startAPI(t, Config{MaxConnections: most, Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Done()
		<-answer
		fmt.Fprint(w, "late")
	})})
	all := openIdle(t, c, most, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
	asked.Wait()
	for _, nc := range openIdle(t, c, most, "") {
		isClosed(t, nc)
	}
	release()
	for _, nc := range all {
		resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, "late", string(body))
	}
}

// Who is refused is not waited for: neither for a body that does not come nor for the next request.
func TestServer_LeavesWhoIsRefused(t *testing.T) {
	c := startAPI(t, Config{Token: "s3cret"})
	for _, request := range []string{
		"GET /v1/routes HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"PUT /v1/routes/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n",
	} {
		nc := openIdle(t, c, 1, request)[0]
		began := time.Now()
		require.NoError(t, nc.SetReadDeadline(began.Add(readBodyTimeout)))
		answer, err := io.ReadAll(nc)
		require.NoError(t, err)
		require.Contains(t, string(answer), "401 Unauthorized")
		require.Less(t, time.Since(began), readBodyTimeout/2)
	}
}
