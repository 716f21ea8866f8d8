package dial

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEndpoint(t *testing.T) {
	for _, c := range []struct{ network, listen, host string }{
		{"tcp", "127.0.0.1:0", "127.0.0.1"},
		{"tcp", "127.0.0.1:0", "localhost"},
		{"tcp", "127.0.0.1:0", "LocalHost."},
		{"tcp", "[::1]:0", "localhost"},
		{"tcp", "[::1]:0", "::1"},
		{"unix", filepath.Join(t.TempDir(), "s"), ""},
	} {
		t.Run(c.listen+" "+c.host, func(t *testing.T) {
			l, err := net.Listen(c.network, c.listen)
			if err != nil && c.listen == "[::1]:0" {
				t.Skip("no IPv6 here")
			}
			require.NoError(t, err)
			defer l.Close()
			address := "unix:" + c.listen
			if c.network == "tcp" {
				_, port, _ := net.SplitHostPort(l.Addr().String())
				address = net.JoinHostPort(c.host, port)
			}
			nc, err := Endpoint(t.Context(), &net.Dialer{}, address)
			require.NoError(t, err)
			require.NoError(t, nc.Close())
		})
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	require.NoError(t, l.Close())
	_, err = Endpoint(t.Context(), &net.Dialer{}, "localhost:"+port)
	require.ErrorContains(t, err, "127.0.0.1:"+port)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Endpoint(ctx, &net.Dialer{}, "localhost:"+port)
	require.Error(t, err)
}

func TestIsLocalhost(t *testing.T) {
	for _, host := range []string{"localhost", "LOCALHOST", "localhost."} {
		require.True(t, IsLocalhost(host))
	}
	for _, host := range []string{"", ".", "a.localhost", "localhost.example", "localhost..", "127.0.0.1"} {
		require.False(t, IsLocalhost(host), host)
	}
}
