package health

import (
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTCP_AnEndpointThatTakesConnectionsIsHealthy(t *testing.T) {
	ended := make(chan error, 10_000)
	address := startRaw(t, func(nc net.Conn) {
		_, err := io.Copy(io.Discard, nc)
		ended <- err
	})
	changes := watch(t, newChecker(t), address, Config{Type: TypeTCP, Interval: 100 * time.Millisecond})
	require.True(t, receive(t, "the first result", changes).Healthy)
	for range 3 {
		require.NoError(t, receive(t, "the end of a check's connection", ended))
	}
	require.Empty(t, changes)
}

func TestTCP_AnEndpointThatIsGoneFallsAndOneThatIsBackRises(t *testing.T) {
	cfg := Config{Type: TypeTCP, Interval: 100 * time.Millisecond}
	ln := listen(t, "127.0.0.1:0")
	address := ln.Addr().String()
	changes := watch(t, newChecker(t), address, cfg)
	require.True(t, receive(t, "the first result", changes).Healthy)
	begin := time.Now()
	require.NoError(t, ln.Close())
	got := receive(t, "a change", changes)
	require.False(t, got.Healthy)
	require.ErrorContains(t, got.Err, "refused")
	require.Less(t, time.Since(begin), 3*cfg.Interval+slack)
	begin = time.Now()
	ln = listen(t, address)
	defer ln.Close()
	require.True(t, receive(t, "a change", changes).Healthy)
	require.Less(t, time.Since(begin), 2*cfg.Interval+slack)
}

func TestTCP_UnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	c := newChecker(t)
	cfg := Config{Type: TypeTCP, Interval: 100 * time.Millisecond}
	changes := watch(t, c, "unix:"+path, cfg)
	got := receive(t, "the first result", changes)
	require.False(t, got.Healthy)
	require.ErrorContains(t, got.Err, "no such file")
	ln, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer ln.Close()
	require.True(t, receive(t, "a change", changes).Healthy)
}
