package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/test/loopback"
)

const token = "s3cret-token"

// ask gets a path of the gateway's admin server.
func ask(t *testing.T, g *Gateway, path string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(testContext(t), http.MethodGet, "http://"+g.AdminAddr()+path, nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, string(body))
	return string(body)
}

// series returns the lines of the metrics that begin with prefix.
func series(metrics, prefix string) (all []string) {
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, prefix) {
			all = append(all, strings.TrimSpace(line))
		}
	}
	return all
}

func TestObservers_HearOfCallsUntilTheLast(t *testing.T) {
	t.Parallel()
	b := startBackend(t)
	cfg := fileConfig(t, oneRoute(b.addr))
	cfg.Routes.ReloadInterval = 10 * time.Millisecond
	cfg.Admin.Address, cfg.Admin.Token = "127.0.0.1:0", token
	cfg.AccessLog = conf.AccessLog{Path: filepath.Join(t.TempDir(), "access.log"), Sample: 1}
	g := start(t, cfg)
	cc := dial(t, g.Addr("main"))
	first := call(t, cc, b)
	const active, calls = `framegate_active_calls{backend="",route="all"} `, `framegate_calls_total{`
	require.Equal(t, []string{active + "1"}, series(ask(t, g, "/metrics"), active))
	close(b.release)
	require.NoError(t, (<-first).err)
	require.NoError(t, cc.Invoke(testContext(t), "/s/m", &emptypb.Empty{}, &emptypb.Empty{}))
	require.Eventually(t, func() bool {
		got := series(ask(t, g, "/metrics"), calls)
		return len(got) == 1 && got[0] == `framegate_calls_total{backend="",code="OK",method="*",route="all"} 2`
	}, waitLimit, 10*time.Millisecond)
	metrics := ask(t, g, "/metrics")
	require.Equal(t, []string{`framegate_upstream_connections{endpoint="` + b.addr + `"} 1`}, series(metrics, "framegate_upstream_connections{"))
	require.Len(t, series(metrics, "framegate_config_age_seconds "), 1, "the file was read")
	require.Equal(t, []string{"framegate_access_log_dropped_total 0"}, series(metrics, "framegate_access_log_dropped_total "))

	renamed := strings.Replace(oneRoute(b.addr), "backends: [{", "backends: [{name: v2, ", 1)
	renamed = strings.Replace(renamed, "method: '*'", "method: /s/*", 1)
	require.NoError(t, os.WriteFile(cfg.Routes.File, []byte(renamed), 0o600))
	require.Eventually(t, func() bool { return len(series(ask(t, g, "/metrics"), calls)) == 0 }, waitLimit, 10*time.Millisecond, "the pattern went")
	require.NoError(t, cc.Invoke(testContext(t), "/s/m", &emptypb.Empty{}, &emptypb.Empty{}))
	require.Eventually(t, func() bool {
		got := series(ask(t, g, "/metrics"), calls)
		return len(got) == 1 && got[0] == `framegate_calls_total{backend="v2",code="OK",method="/s/*",route="all"} 1`
	}, waitLimit, 10*time.Millisecond)

	g.Shutdown(context.Background())
	lines, err := os.ReadFile(cfg.AccessLog.Path)
	require.NoError(t, err)
	var logged []string
	for line := range strings.Lines(string(lines)) {
		var l map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &l), line)
		logged = append(logged, l["method"].(string)+" "+l["route"].(string)+" "+l["backend"].(string)+" "+l["code"].(string))
	}
	require.ElementsMatch(t, []string{"/s/m all  OK", "/s/m all  OK", "/s/m all v2 OK"}, logged)
}

func TestObservers_TellOfAnEndpointThatIsNotThere(t *testing.T) {
	t.Parallel()
	b, dead := startBackend(t), loopback.Address(t)
	close(b.release)
	cfg := fileConfig(t, fmt.Sprintf(`routes: [{name: all, match: [{method: '*'}], backends: [{name: main, panic_percent: 0,
  endpoints: [{address: %q, weight: 1000000}, {address: %q}], ejection: {consecutive_failures: 1, base_time: 1h}}]}]`, dead, b.addr))
	cfg.Admin.Address, cfg.Admin.Token = "127.0.0.1:0", token
	cfg.AccessLog = conf.AccessLog{Path: filepath.Join(t.TempDir(), "access.log"), Sample: 1}
	g := start(t, cfg)
	cc := dial(t, g.Addr("main"))
	for range 2 {
		require.NoError(t, cc.Invoke(testContext(t), "/s/m", &emptypb.Empty{}, &emptypb.Empty{}))
	}
	const retries, group = "framegate_retries_total{", `backend="main",route="all",service="",`
	require.Eventually(t, func() bool {
		return len(series(ask(t, g, "/metrics"), `framegate_calls_total{backend="main",code="OK",method="*",route="all"} 2`)) == 1
	}, waitLimit, 10*time.Millisecond)
	metrics := ask(t, g, "/metrics")
	require.Equal(t, []string{`framegate_retries_total{backend="main",code="OK",kind="transparent",route="all"} 1`}, series(metrics, retries), "the second call went to the other at once")
	require.Equal(t, []string{`framegate_ejections_total{` + group + `tags=""} 1`}, series(metrics, "framegate_ejections_total{"))
	for state, n := range map[string]int{"usable": 1, "ejected": 1, "unhealthy": 0, "off": 0} {
		require.Contains(t, metrics, fmt.Sprintf(`framegate_endpoints{%sstate=%q,tags=""} %d`, group, state, n))
	}
	require.Contains(t, ask(t, g, "/v1/endpoints"), `"address":"`+dead+`","state":"ejected"`)

	g.Shutdown(context.Background())
	log, err := os.ReadFile(cfg.AccessLog.Path)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	require.Len(t, lines, 2)
	require.Equal(t, 1, strings.Count(string(log), `"attempts":`))
	require.Equal(t, 1, strings.Count(string(log), `"attempts":2`), "the first; its line may come after the second's")
	for _, line := range lines {
		require.Contains(t, line, `"endpoint":"`+b.addr+`"`)
	}
}

func TestAdmin_ShowsTheConfigurationWithoutSecrets(t *testing.T) {
	t.Parallel()
	cfg := fileConfig(t, "routes: []")
	cfg.Admin.Address, cfg.Admin.Token = "127.0.0.1:0", token
	cfg.Etcd = external(loopback.Address(t))
	cfg.Etcd.Username, cfg.Etcd.Password, cfg.Etcd.DialTimeout = "framegate", "s3cret-password", 100*time.Millisecond
	g := start(t, cfg)
	shown := ask(t, g, "/v1/config")
	require.NotContains(t, shown, "s3cret")
	var got struct {
		Admin struct{ Address, Token string }
		Etcd  struct {
			Endpoints          []string
			Username, Password string
		}
		Drain struct{ Timeout string }
	}
	require.NoError(t, json.Unmarshal([]byte(shown), &got), shown)
	require.Equal(t, "(hidden)", got.Admin.Token)
	require.Equal(t, "(hidden)", got.Etcd.Password)
	require.Equal(t, "framegate", got.Etcd.Username)
	require.Equal(t, cfg.Etcd.Endpoints, got.Etcd.Endpoints)
	require.Equal(t, "30s", got.Drain.Timeout)
	metrics := ask(t, g, "/metrics")
	require.Empty(t, series(metrics, "framegate_config_age_seconds "), "etcd was never reached")
	require.Len(t, series(metrics, "framegate_config_stale "), 1)
}

func TestStart_NamesAnAccessLogThatCannotBe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for path, want := range map[string]string{
		dir:                                      `want a regular file, a character device, stdout, stderr or none`,
		filepath.Join(dir, "none", "access.log"): "no such file or directory",
	} {
		cfg := fileConfig(t, "routes: []")
		cfg.AccessLog.Path = path
		_, err := Start(testContext(t), cfg, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, "access_log.path: ")
		require.ErrorContains(t, err, path)
		require.ErrorContains(t, err, want)
	}
	cfg := fileConfig(t, "routes: []")
	cfg.AccessLog.Path = os.DevNull
	start(t, cfg)
}
