//go:build unix

package app

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/framegate/framegate/test/loopback"
)

// reloadable is a server that runs with a configuration file, and the files that it names.
type reloadable struct {
	*serverProcess
	addr, admin, config, routes, accessLog string
}

// document is a configuration, with more keys at its top.
func (r *reloadable) document(more string) string {
	return fmt.Sprintf("{listeners: [{name: main, address: %q}], admin: {address: %q, token: old}, etcd: {endpoints: [none]}, routes: {file: %q}, access_log: {path: %q, sample: 1}%s}",
		r.addr, r.admin, r.routes, r.accessLog, more)
}

func (r *reloadable) write(t *testing.T, document string) {
	t.Helper()
	require.NoError(t, os.WriteFile(r.config, []byte(document), 0o600))
}

func (r *reloadable) signal(t *testing.T, s os.Signal) {
	t.Helper()
	require.NoError(t, r.cmd.Process.Signal(s))
}

func (r *reloadable) awaitLog(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(r.log(), text) }, processLimit, 5*time.Millisecond, "no %q in the log", text)
}

// call makes a call that no route takes, and so is logged.
func (r *reloadable) call(t *testing.T) {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+r.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer cc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), processLimit)
	defer cancel()
	require.Equal(t, codes.Unimplemented, status.Code(cc.Invoke(ctx, "/echo.Echo/Say", &emptypb.Empty{}, &emptypb.Empty{})))
}

func awaitLines(t *testing.T, path string, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		content, _ := os.ReadFile(path)
		return strings.Count(string(content), "\n") == n
	}, processLimit, 5*time.Millisecond, "%s has not %d lines", path, n)
}

func (r *reloadable) adminStatus(t *testing.T, token string) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+r.admin+"/v1/config", nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}

func startReloadable(t *testing.T) *reloadable {
	t.Helper()
	dir := t.TempDir()
	r := &reloadable{
		addr: loopback.Address(t), admin: loopback.Address(t), config: filepath.Join(dir, "framegate.yaml"),
		routes: writeFile(t, "routes: []"), accessLog: filepath.Join(dir, "access.log"),
	}
	r.write(t, r.document(""))
	r.serverProcess = startServer(t, "--config", r.config)
	require.Eventually(t, func() bool { return checkHealth(r.addr) == nil }, processLimit, 5*time.Millisecond)
	return r
}

func (r *reloadable) endsWell(t *testing.T) {
	t.Helper()
	r.signal(t, syscall.SIGTERM)
	state, err := r.cmd.Process.Wait()
	require.NoError(t, err)
	require.Equal(t, 0, state.ExitCode(), state)
}

func TestServe_SIGUSR1ReopensTheAccessLogAlone(t *testing.T) {
	t.Parallel()
	r := startReloadable(t)
	r.call(t)
	awaitLines(t, r.accessLog, 1)
	r.write(t, "nonsense: 1")
	require.NoError(t, os.Rename(r.accessLog, r.accessLog+".1"))
	r.signal(t, syscall.SIGUSR1)
	r.awaitLog(t, "log files opened again")
	r.call(t)
	awaitLines(t, r.accessLog, 1)
	awaitLines(t, r.accessLog+".1", 1)
	require.NotContains(t, r.log(), "nonsense")
	r.endsWell(t)
}

func TestServe_SIGHUPReopensLogsAndReadsTheConfigurationAgain(t *testing.T) {
	t.Parallel()
	r := startReloadable(t)
	r.call(t)
	awaitLines(t, r.accessLog, 1)
	require.NoError(t, os.Rename(r.accessLog, r.accessLog+".1"))
	r.write(t, strings.Replace(r.document(`, log: {level: debug, format: json}, compression: [br]`), "token: old", "token: new", 1))
	require.Equal(t, http.StatusOK, r.adminStatus(t, "old"))
	r.signal(t, syscall.SIGHUP)
	r.awaitLog(t, "configuration read again")
	for _, want := range []string{
		`msg="the configuration has changed in a key that needs a restart" key=compression in_force="[br lz4]" read=[br]`,
		`msg="the configuration has changed" key=admin.token from=(hidden) to=(hidden)`,
		`msg="the configuration has changed" key=log.format from=text to=json`,
	} {
		require.Contains(t, r.log(), want)
	}
	require.Equal(t, []int{http.StatusUnauthorized, http.StatusOK}, []int{r.adminStatus(t, "old"), r.adminStatus(t, "new")})
	r.call(t)
	awaitLines(t, r.accessLog, 1)
	awaitLines(t, r.accessLog+".1", 1)

	r.signal(t, syscall.SIGUSR1)
	r.awaitLog(t, `"msg":"log files opened again"`)
	r.endsWell(t)
}

func TestServe_SIGHUPWithAWrongConfigurationChangesNothing(t *testing.T) {
	t.Parallel()
	const fifo = "a FIFO"
	r := startReloadable(t)
	for name, c := range map[string]struct{ document, want string }{
		"a value":          {r.document(`, drain: {timeout: -1s}, log: {level: error}`), "drain.timeout: -1s, want 1ms to 8760h0m0s"},
		"an unknown key":   {r.document(`, nonsense: 1, log: {level: error}`), "nonsense: unknown key, want one of"},
		"no YAML":          {"}{", r.config},
		"the routes":       {strings.Replace(r.document(", log: {level: error}"), r.routes, writeFile(t, "routes: [{name: X}]"), 1), `routes.file: `},
		"the access log":   {strings.Replace(r.document(", log: {level: error}"), r.accessLog, "/none/access.log", 1), "access_log.path: "},
		"with what stays":  {strings.Replace(strings.Replace(r.document(", log: {level: error}"), "endpoints: [none]", "endpoints: [127.0.0.1:1]", 1), r.routes, "", 1), "routes.file: back to its default"},
		"nothing":          {"# to be written", "it says nothing, want a configuration"},
		"the token gone":   {strings.Replace(r.document(", log: {level: error}"), ", token: old", "", 1), "admin.token: back to its default, want a value"},
		"it is not there":  {"", "no such file"},
		"a FIFO":           {fifo, "want a regular file"},
		"a log that is no": {r.document(`, log: {level: loud}`), `log.level: "loud", want debug`},
	} {
		_ = os.Remove(r.config) // or it is gone already
		switch c.document {
		case "":
		case fifo:
			require.NoError(t, syscall.Mkfifo(r.config, 0o600))
		default:
			r.write(t, c.document)
		}
		before := len(r.log())
		r.signal(t, syscall.SIGHUP)
		require.Eventually(t, func() bool { return strings.Contains(r.log()[before:], "the configuration cannot be read again") }, processLimit, 5*time.Millisecond, name)
		line := r.log()[before:]
		require.Contains(t, line, "level=ERROR", name)
		require.Contains(t, strings.ReplaceAll(line, `\"`, `"`), c.want, name)
		require.Equal(t, http.StatusOK, r.adminStatus(t, "old"), name)
	}
	_ = os.Remove(r.config)
	r.write(t, r.document(`, log: {format: json}`))
	r.signal(t, syscall.SIGHUP)
	r.awaitLog(t, "configuration read again")
	require.Contains(t, r.log(), "changed=1 need_a_restart=0", "nothing of the wrong ones was kept")
	r.call(t)
	awaitLines(t, r.accessLog, 1)
	r.endsWell(t)
}

func TestServe_SIGHUPWithoutAConfigurationFileIsHarmless(t *testing.T) {
	t.Parallel()
	addr := loopback.Address(t)
	s := startServer(t, "--etcd", "none", "--admin", "none", "--listen", addr, "--routes", writeFile(t, "routes: []"))
	require.Eventually(t, func() bool { return checkHealth(addr) == nil }, processLimit, 5*time.Millisecond)
	for range 3 {
		require.NoError(t, s.cmd.Process.Signal(syscall.SIGHUP))
	}
	require.Eventually(t, func() bool { return strings.Contains(s.log(), "changed=0 need_a_restart=0") }, processLimit, 5*time.Millisecond)
	require.NoError(t, checkHealth(addr))
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	state, err := s.cmd.Process.Wait()
	require.NoError(t, err)
	require.Equal(t, 0, state.ExitCode(), s.log())
}
