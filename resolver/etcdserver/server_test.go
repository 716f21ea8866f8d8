package etcdserver_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/framegate/framegate/resolver/etcdserver"
	"github.com/framegate/framegate/test/loopback"
)

const anyPort = "127.0.0.1:0"

func start(t *testing.T, cfg etcdserver.Config) *etcdserver.Server {
	t.Helper()
	began := time.Now()
	s, err := etcdserver.Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Logf("started in %s", time.Since(began).Round(time.Millisecond))
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func client(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	cli, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = cli.Close() })
	return cli
}

func TestStart_KeepsDataOverARestartOnTheSamePort(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	cfg := etcdserver.Config{Dir: t.TempDir(), Address: loopback.Address(t), Log: slog.New(slog.NewTextHandler(&log, nil))}
	s := start(t, cfg)
	cli := client(t, s.Endpoint())
	_, err := cli.Put(t.Context(), "k", "v")
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "Close is idempotent")

	cfg.Address = s.Endpoint()
	again := start(t, cfg)
	require.Equal(t, s.Endpoint(), again.Endpoint())
	got, err := cli.Get(t.Context(), "k")
	require.NoError(t, err)
	require.Len(t, got.Kvs, 1)
	require.Equal(t, "v", string(got.Kvs[0].Value))
	require.NoError(t, again.Close())
	require.Empty(t, log.String(), "a good start and stop log nothing")
	select {
	case err := <-again.Failed():
		t.Fatalf("Close counts as a failure: %v", err)
	default:
	}
}

func TestStart_SeveralServersShareAMachine(t *testing.T) {
	t.Parallel()
	a := start(t, etcdserver.Config{Dir: t.TempDir(), Address: anyPort})
	b := start(t, etcdserver.Config{Dir: t.TempDir(), Address: anyPort})
	require.NotEqual(t, a.Endpoint(), b.Endpoint())
	one, err := client(t, a.Endpoint()).Get(t.Context(), "k")
	require.NoError(t, err)
	two, err := client(t, b.Endpoint()).Get(t.Context(), "k")
	require.NoError(t, err)
	require.NotEqual(t, one.Header.ClusterId, two.Header.ClusterId, "stores can be told apart")
}

// What etcd serves by HTTP tells pages in a browser, and everybody, about the process and its routes.
func TestStart_ServesNoHTTP(t *testing.T) {
	t.Parallel()
	s := start(t, etcdserver.Config{Dir: t.TempDir(), Address: anyPort})
	for _, path := range []string{"/debug/vars", "/metrics", "/version", "/health", "/v3/kv/range", "/v3beta/kv/range", "/debug/pprof/"} {
		for _, method := range []string{"GET", "POST", "OPTIONS"} {
			nc, err := net.Dial("tcp", s.Endpoint())
			require.NoError(t, err)
			require.NoError(t, nc.SetDeadline(time.Now().Add(patience)))
			_, err = fmt.Fprintf(nc, "%s %s HTTP/1.1\r\nHost: attacker.example\r\nOrigin: http://attacker.example\r\n\r\n", method, path)
			require.NoError(t, err)
			answer, err := io.ReadAll(nc)
			if err != nil {
				require.ErrorIs(t, err, syscall.ECONNRESET)
			}
			require.NotContains(t, string(answer), "HTTP/1", "%s %s", method, path)
			require.NoError(t, nc.Close())
		}
	}
}

func TestStart_ListensEverywhereAndNamesALocalEndpoint(t *testing.T) {
	t.Parallel()
	s := start(t, etcdserver.Config{Dir: t.TempDir(), Address: ":0", Insecure: true})
	require.Regexp(t, `^127\.0\.0\.1:\d+$`, s.Endpoint())
	_, err := client(t, s.Endpoint()).Get(t.Context(), "k")
	require.NoError(t, err)
}

func TestClose_DoesNotWaitForWatches(t *testing.T) {
	t.Parallel()
	s := start(t, etcdserver.Config{Dir: t.TempDir(), Address: anyPort})
	cli := client(t, s.Endpoint())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events := cli.Watch(ctx, "k", clientv3.WithCreatedNotify())
	require.True(t, (<-events).Created)
	began := time.Now()
	require.NoError(t, s.Close())
	t.Logf("closed in %s", time.Since(began).Round(time.Millisecond))
	require.Less(t, time.Since(began), 10*time.Second, "or it is given up, after 15s")
	cancel()
}

func TestStart_RefusesAnAddressInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", anyPort)
	require.NoError(t, err)
	defer l.Close()
	_, err = etcdserver.Start(t.Context(), etcdserver.Config{Dir: t.TempDir(), Address: l.Addr().String()})
	require.ErrorContains(t, err, `"`+l.Addr().String()+`" is in use`)
	require.ErrorContains(t, err, "--etcd "+l.Addr().String())
}

func TestStart_RefusesAForeignAddress(t *testing.T) {
	t.Parallel()
	_, err := etcdserver.Start(t.Context(), etcdserver.Config{Dir: t.TempDir(), Address: "192.0.2.1:2379", Insecure: true})
	require.ErrorContains(t, err, `"192.0.2.1:2379", want an address of this machine`)
}

func TestStart_RefusesADirectoryItCannotWrite(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, dir := range []string{file, filepath.Join(file, "data"), "/proc/framegate"} {
		_, err := etcdserver.Start(t.Context(), etcdserver.Config{Dir: dir, Address: anyPort})
		require.ErrorContains(t, err, "etcd data directory: "+dir+", want a directory that framegate can write")
	}
}

func TestStart_RefusesADirectoryInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, etcdserver.Config{Dir: dir, Address: anyPort})
	began := time.Now()
	_, err := etcdserver.Start(t.Context(), etcdserver.Config{Dir: dir, Address: anyPort})
	require.ErrorContains(t, err, dir+" is in use by another framegate or etcd")
	require.Less(t, time.Since(began), 10*time.Second)

	// The lock of ours aside, as when an etcd of its own runs there.
	require.NoError(t, os.Remove(filepath.Join(dir, "framegate.lock")))
	_, err = etcdserver.Start(t.Context(), etcdserver.Config{Dir: dir, Address: anyPort})
	require.ErrorContains(t, err, dir+" is in use by another framegate or etcd")
}

func TestStart_WaitsForADirectoryThatIsJustGivenUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, etcdserver.Config{Dir: dir, Address: anyPort})
	closed := make(chan error, 1)
	time.AfterFunc(100*time.Millisecond, func() { closed <- first.Close() })
	start(t, etcdserver.Config{Dir: dir, Address: anyPort})
	require.NoError(t, <-closed)
}

func TestStart_RefusesABrokenDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "member", "snap"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "member", "snap", "db"), bytes.Repeat([]byte("x"), 1<<15), 0o600))
	_, err := etcdserver.Start(t.Context(), etcdserver.Config{Dir: dir, Address: anyPort})
	require.ErrorContains(t, err, dir+" does not hold an etcd database that can be read")
}

// etcd ends the process on some logs that it cannot read; the trap makes it an error.
func TestStart_SurvivesABrokenLog(t *testing.T) {
	t.Parallel()
	if !etcdserver.Alone(t) {
		return
	}
	for _, at := range []int{64, 400, 1000} {
		t.Run(fmt.Sprintf("offset=%d", at), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := start(t, etcdserver.Config{Dir: dir, Address: anyPort})
			for range 20 {
				_, err := client(t, s.Endpoint()).Put(t.Context(), "k", strings.Repeat("v", 100))
				require.NoError(t, err)
			}
			require.NoError(t, s.Close())
			logs, err := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
			require.NoError(t, err)
			require.NotEmpty(t, logs)
			for _, path := range logs {
				data, err := os.ReadFile(path)
				require.NoError(t, err)
				for i := range 32 {
					data[at+i] ^= 0xff
				}
				require.NoError(t, os.WriteFile(path, data, 0o600))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_, err = etcdserver.Start(ctx, etcdserver.Config{Dir: dir, Address: anyPort})
			require.ErrorContains(t, err, "etcd with its data in "+dir)
			t.Log(err)
		})
	}
}

func TestStart_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(context.Canceled)
	_, err := etcdserver.Start(ctx, etcdserver.Config{Dir: t.TempDir(), Address: anyPort})
	require.ErrorIs(t, err, context.Canceled)
}

func TestConfig_NamesEachMistake(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"here":            `etcd address: "here", want IP:port`,
		"etcd.local:2379": `etcd address: "etcd.local:2379", want IP:port`,
		"127.0.0.1:x":     `etcd address: "127.0.0.1:x", want a port from 0 to 65535`,
		"127.0.0.1:70000": `want a port from 0 to 65535`,
	} {
		_, err := etcdserver.Start(t.Context(), etcdserver.Config{Address: address})
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, `etcd dir: "", want a path`)
	}
}

// A stock embedded etcd proves that its lock is honoured too.
func TestStart_RefusesTheDirectoryOfAStockEtcd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.ListenPeerUrls = nil
	cfg.ListenClientUrls = nil
	cfg.AdvertiseClientUrls = nil
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(cfg)
	require.NoError(t, err)
	defer e.Close()
	_, err = etcdserver.Start(t.Context(), etcdserver.Config{Dir: dir, Address: anyPort})
	require.ErrorContains(t, err, dir+" is in use by another framegate or etcd")
}
