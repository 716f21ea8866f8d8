package etcdserver

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

func TestTrap_EndsTheGoroutineNotTheProcess(t *testing.T) {
	t.Parallel()
	cause := errors.New("no space left on device")
	for name, end := range map[string]func(*trap){
		"fatal": func(tr *trap) { tr.logger.Fatal("failed to save", zap.Error(cause)) },
		"panic": func(tr *trap) {
			tr.logger.Named("raft").With(zap.Int("n", 1)).Panic("failed to save", zap.Error(cause))
		},
		"sugar": func(tr *trap) { tr.logger.Sugar().Panicf("failed to %s: %v", "save", cause) },
		"plain": func(*trap) { panic("failed to save: no space left on device") },
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTrap(slog.New(slog.DiscardHandler))
			done, passed := make(chan struct{}), false
			go func() {
				defer close(done)
				defer tr.catchPanic()
				end(tr)
				passed = true
			}()
			<-done
			require.False(t, passed)
			require.ErrorContains(t, <-tr.failed, "failed to save: no space left on device")
		})
	}
}

func TestTrap_LogsErrorsUntilDisarmed(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	tr := newTrap(slog.New(slog.NewTextHandler(&out, nil)))
	tr.logger.Warn("slow disk")
	require.Empty(t, out.String())
	tr.logger.With(zap.String("member", "a")).Error("bad disk", zap.Int("n", 3))
	require.Contains(t, out.String(), `level=ERROR msg="etcd: bad disk"`)
	require.Contains(t, out.String(), "member=a")
	require.Contains(t, out.String(), "n=3")
	out.Reset()
	tr.disarm()
	tr.logger.Error("listener closed")
	tr.fail(errors.New("late"))
	require.Empty(t, out.String())
	require.Empty(t, tr.failed)
}

func TestFailed_TellsOfAnEtcdThatEndsByItself(t *testing.T) {
	t.Parallel()
	s, err := Start(t.Context(), Config{Dir: t.TempDir(), Address: "127.0.0.1:0"})
	require.NoError(t, err)
	s.etcd.Server.Stop()
	require.EqualError(t, <-s.Failed(), "stopped by itself")
	require.NoError(t, s.Close())
}

// What a full disk does: etcd logs Fatal from the goroutine that commits, while that one holds a lock. Whether etcd can
// stop after that is chance; Close ends all the same.
func TestClose_EndsAfterAFatalError(t *testing.T) {
	t.Parallel()
	if !Alone(t) {
		return
	}
	s, err := Start(t.Context(), Config{Dir: t.TempDir(), Address: "127.0.0.1:0"})
	require.NoError(t, err)
	held := s.etcd.Server.Backend().BatchTx()
	go func() {
		held.Lock()
		s.trap.logger.Fatal("failed to commit tx", zap.Error(errors.New("no space left on device")))
	}()
	require.EqualError(t, <-s.Failed(), "failed to commit tx: no space left on device")
	began := time.Now()
	require.ErrorContains(t, s.Close(), "not stopped within")
	require.Less(t, time.Since(began), closeTimeout)
}
