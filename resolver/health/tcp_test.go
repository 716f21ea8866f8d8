package health

import (
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/loopback"
)

// quickTCP is what quick is, for a check that needs no answer.
var quickTCP = Config{Type: TypeTCP, Interval: 500 * time.Millisecond}

func TestTCP_AnEndpointThatTakesConnectionsIsHealthy(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 10_000)
	address := startRaw(t, func(nc net.Conn) {
		_, err := io.Copy(io.Discard, nc)
		ended <- err
	})
	changes := subscribe(t, newChecker(t), address, quickTCP)
	require.True(t, receive(t, "the first result", changes).Healthy)
	for range 3 {
		require.NoError(t, receive(t, "the end of a check's connection", ended))
	}
	require.Empty(t, changes)
}

func TestTCP_AnEndpointThatIsGoneFallsAndOneThatIsBackRises(t *testing.T) {
	t.Parallel()
	ln := listen(t, loopback.Address(t))
	address := ln.Addr().String()
	changes := subscribe(t, newChecker(t), address, quickTCP)
	require.True(t, receive(t, "the first result", changes).Healthy)
	require.NoError(t, ln.Close())
	got := receive(t, "a change", changes)
	require.False(t, got.Healthy)
	require.Equal(t, 3, got.Failures)
	require.ErrorContains(t, got.Err, "refused")
	ln = listen(t, address)
	defer ln.Close()
	require.True(t, receive(t, "a change", changes).Healthy)
}

func TestTCP_UnixSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	c := newChecker(t)
	changes := subscribe(t, c, "unix:"+path, quickTCP)
	got := receive(t, "the first result", changes)
	require.False(t, got.Healthy)
	require.ErrorContains(t, got.Err, "no such file")
	ln, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer ln.Close()
	require.True(t, receive(t, "a change", changes).Healthy)
}
