package gateway

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/loopback"
	"github.com/framegate/framegate/test/testlog"
)

// copied returns a copy of a configuration with other values.
func copied(c *conf.Config, change func(*conf.Config)) *conf.Config {
	next := *c
	next.Listeners = append([]conf.Listener(nil), c.Listeners...)
	change(&next)
	return &next
}

func writeRoutes(t *testing.T, routes string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "other.yaml")
	require.NoError(t, os.WriteFile(path, []byte(routes), 0o600))
	return path
}

func TestReload_ChangesWhatCallsMeet(t *testing.T) {
	t.Parallel()
	b, other := startBackend(t), startBackend(t)
	close(other.release)
	cfg := fileConfig(t, oneRoute(b.addr))
	g := start(t, cfg)
	addr := g.Addr("main")
	cc := dial(t, addr)
	running := call(t, cc, b)
	invoke := func(payload int) codes.Code {
		return status.Code(cc.Invoke(testContext(t), "/s/m", wrapperspb.String(strings.Repeat("x", payload)), &emptypb.Empty{}))
	}

	accessLog := filepath.Join(t.TempDir(), "access.log")
	next := copied(cfg, func(c *conf.Config) {
		c.Routes.File = writeRoutes(t, oneRoute(other.addr))
		c.Limits.MaxMessageBytes = 100
		c.Listeners[0].MaxConnections = 1
		c.AccessLog = conf.AccessLog{Path: accessLog, Sample: 1}
		c.Drain.Timeout, c.Drain.EndpointTimeout = 50*time.Millisecond, time.Hour
	})
	require.NoError(t, g.Reload(testContext(t), next))
	require.Equal(t, codes.OK, invoke(1), "to the backend of the other file")
	require.Equal(t, codes.ResourceExhausted, invoke(200))
	nc, err := net.Dial("tcp", addr)
	if err == nil { // accepted by the kernel, and closed
		require.NoError(t, nc.SetReadDeadline(time.Now().Add(waitLimit)))
		_, err = nc.Read(make([]byte, 1))
		require.NoError(t, nc.Close())
	}
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Eventually(t, func() bool {
		lines, _ := os.ReadFile(accessLog)
		return strings.Count(string(lines), "\n") == 2
	}, waitLimit, 5*time.Millisecond)

	next = copied(next, func(c *conf.Config) { c.Listeners[0].MaxCalls, c.AccessLog.Path = 1, conf.None })
	require.NoError(t, g.Reload(testContext(t), next))
	require.Equal(t, codes.ResourceExhausted, invoke(1), "one is under way")
	shown, err := configJSON(g.conf())
	require.NoError(t, err)
	require.Contains(t, string(shown), `"timeout":"50ms"`)

	began := time.Now()
	g.Shutdown(context.Background())
	require.Less(t, time.Since(began), 20*time.Second, "the first configuration says 30s")
	require.Equal(t, codes.Unavailable, status.Code((<-running).err))
	lines, err := os.ReadFile(accessLog)
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(string(lines), "\n"), "off")
	require.ErrorIs(t, g.Reload(testContext(t), next), errReloadDraining)
	require.NoError(t, g.ReopenLogs())
}

func TestReload_ARoutesFileMayMakeWayForAnother(t *testing.T) {
	t.Parallel()
	b := startBackend(t)
	close(b.release)
	cfg := fileConfig(t, oneRoute(b.addr))
	cfg.Etcd = external(loopback.Address(t))
	cfg.Etcd.DialTimeout, cfg.Etcd.Snapshot = 100*time.Millisecond, ""
	none := filepath.Join(t.TempDir(), "none.yaml")
	require.NoError(t, os.WriteFile(none, []byte("routes: []"), 0o600))
	g := start(t, cfg)
	cc := dial(t, g.Addr("main"))
	for range 3 {
		require.NoError(t, cc.Invoke(testContext(t), "/s/m", &emptypb.Empty{}, &emptypb.Empty{}))
		require.ErrorContains(t, g.Reload(testContext(t), copied(cfg, func(c *conf.Config) { c.Routes.File = "" })), "routes.file: back to its default")
		require.NoError(t, cc.Invoke(testContext(t), "/s/m", &emptypb.Empty{}, &emptypb.Empty{}))
		require.NoError(t, g.Reload(testContext(t), copied(cfg, func(c *conf.Config) { c.Routes.File = none })))
		require.Error(t, cc.Invoke(testContext(t), "/s/m", &emptypb.Empty{}, &emptypb.Empty{}))
		require.Empty(t, g.sources.routes())
		require.NoError(t, g.Reload(testContext(t), cfg))
	}
}

func TestReload_LooksAtTheRoutesFileAtOnce(t *testing.T) {
	t.Parallel()
	b := startBackend(t)
	close(b.release)
	cfg := fileConfig(t, "routes: []")
	cfg.Routes.ReloadInterval = time.Hour
	g := start(t, cfg)
	require.NoError(t, os.WriteFile(cfg.Routes.File, []byte(oneRoute(b.addr)), 0o600))
	require.NoError(t, g.Reload(testContext(t), cfg))
	require.Eventually(t, func() bool { return len(g.resolver.Routes()) == 1 }, waitLimit, 5*time.Millisecond)
}

func TestReload_WhatFailsLastChangesNothing(t *testing.T) {
	t.Parallel()
	b := startBackend(t)
	cfg := fileConfig(t, oneRoute(b.addr))
	g := start(t, cfg)
	next := copied(cfg, func(c *conf.Config) {
		c.Routes.File = writeRoutes(t, "routes: []")
		c.Drain.Timeout = time.Second
		c.AccessLog.Path = t.TempDir()
	})
	require.ErrorContains(t, g.Reload(testContext(t), next), "access_log.path: ")
	require.Len(t, g.resolver.Routes(), 1)
	require.Same(t, cfg, g.conf())
	next.AccessLog.Path, next.Routes.File = conf.None, filepath.Join(t.TempDir(), "none")
	require.ErrorContains(t, g.Reload(testContext(t), next), "routes.file: ")
	require.Same(t, cfg, g.conf())
}

func TestReload_BesideCallsAndTheEnd(t *testing.T) {
	t.Parallel()
	b := startBackend(t)
	close(b.release)
	go func() {
		for range b.started {
		}
	}()
	defer close(b.started)
	cfg := fileConfig(t, oneRoute(b.addr))
	var said testlog.Buffer
	g, err := Start(testContext(t), cfg, said.Logger())
	require.NoError(t, err)
	files := []string{cfg.Routes.File, writeRoutes(t, oneRoute(b.addr))}
	log := filepath.Join(t.TempDir(), "access.log")
	var all sync.WaitGroup
	for range 2 {
		cc := dial(t, g.Addr("main"))
		all.Go(func() {
			for range 200 {
				if err := cc.Invoke(testContext(t), "/s/m", &emptypb.Empty{}, &emptypb.Empty{}); err != nil {
					t.Errorf("call: %v", err)
					return
				}
			}
		})
	}
	for i := range 50 {
		require.NoError(t, g.Reload(testContext(t), copied(cfg, func(c *conf.Config) {
			c.Routes.File = files[i%2]
			c.AccessLog.Path = []string{conf.None, log, log + "2"}[i%3]
			c.AccessLog.Sample = 1
			c.Listeners[0].MaxCalls = []int{0, 100}[i%2]
		})))
		require.NoError(t, g.ReopenLogs())
	}
	all.Wait()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.Shutdown(context.Background())
	}()
	for g.Reload(testContext(t), cfg) == nil {
	}
	<-ended
}

func TestReload_AListenerMayBeBoundedLater(t *testing.T) {
	t.Parallel()
	b := startBackend(t)
	cfg := fileConfig(t, oneRoute(b.addr))
	cfg.Listeners[0].MaxCalls = 1
	g, err := Start(testContext(t), cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { g.Shutdown(context.Background()) })
	cc := dial(t, g.Addr("main"))
	first := call(t, cc, b)
	require.Equal(t, codes.ResourceExhausted, status.Code(cc.Invoke(testContext(t), "/s/m", &emptypb.Empty{}, &emptypb.Empty{})))
	require.NoError(t, g.Reload(testContext(t), copied(cfg, func(c *conf.Config) { c.Listeners[0].MaxCalls = 0 })))
	second := call(t, cc, b)
	close(b.release)
	require.NoError(t, (<-first).err)
	require.NoError(t, (<-second).err)
	require.Zero(t, g.proxy.Entrance("main").Calls)
}

func TestReload_ChangesWhereInstancesMayBe(t *testing.T) {
	t.Parallel()
	b := startBackend(t)
	close(b.release)
	cfg := fileConfig(t, "routes: [{name: all, match: [{method: '*'}], backends: [{service: s}]}]")
	g := start(t, cfg)
	cc := dial(t, g.Addr("main"))
	g.resolver.SetInstances("s", []spec.Instance{{Address: b.addr, Weight: 10}})
	for range 2 {
		require.NoError(t, cc.Invoke(testContext(t), "/s/m", &emptypb.Empty{}, &emptypb.Empty{}))
		require.NoError(t, g.Reload(testContext(t), copied(cfg, func(c *conf.Config) { c.Services.Allow = []string{"10.0.0.0/8"} })))
		require.Equal(t, codes.Unavailable, status.Code(cc.Invoke(testContext(t), "/s/m", &emptypb.Empty{}, &emptypb.Empty{})))
		require.Error(t, g.Reload(testContext(t), cfg), "back to the default")
		require.NoError(t, g.Reload(testContext(t), copied(cfg, func(c *conf.Config) { c.Services.Allow = []string{"127.0.0.0/8"} })))
	}
}
