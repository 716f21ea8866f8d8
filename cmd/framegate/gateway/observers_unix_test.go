//go:build unix

package gateway

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// To open a named pipe waits until somebody reads it.
func TestStart_AccessLogIsNoNamedPipe(t *testing.T) {
	t.Parallel()
	cfg := fileConfig(t, "routes: []")
	cfg.AccessLog.Path = filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, unix.Mkfifo(cfg.AccessLog.Path, 0o600))
	failed := make(chan error, 1)
	go func() {
		_, err := Start(testContext(t), cfg, slog.New(slog.DiscardHandler))
		failed <- err
	}()
	select {
	case err := <-failed:
		require.ErrorContains(t, err, "access_log.path: \""+cfg.AccessLog.Path+"\", which is prw")
		require.ErrorContains(t, err, "want a regular file")
	case <-testContext(t).Done():
		t.Fatal("it waits for a reader")
	}
}
