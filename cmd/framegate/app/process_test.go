package app

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/framegate/framegate/test/loopback"
	"github.com/framegate/framegate/test/race"
)

// asFramegate, set in the environment, makes the test binary be framegate: tests run real processes of it.
const asFramegate = "FRAMEGATE_TEST_MAIN"

func runAsFramegate() {
	if os.Getenv(asFramegate) != "" {
		os.Exit(Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
}

// processLimit is how long a process may take to do what a test waits for, and as a whole.
const processLimit = 2 * time.Minute

func framegate(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), processLimit)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asFramegate+"=1")
	cmd.Dir = t.TempDir()
	return cmd
}

func runFramegate(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return runProcess(t, framegate(t, args...), stdin)
}

func runProcess(t *testing.T, cmd *exec.Cmd, stdin string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	err := cmd.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// runHere is runFramegate within this process, which is sooner: for what ends before anything is started.
func runHere(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = Run(t.Context(), args, strings.NewReader(""), &out, &errOut)
	return out.String(), errOut.String(), code
}

// serverProcess is a running "framegate serve".
type serverProcess struct {
	cmd *exec.Cmd

	mu   sync.Mutex // guards logs
	logs strings.Builder
}

func (s *serverProcess) log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logs.String()
}

func startServer(t *testing.T, args ...string) *serverProcess {
	t.Helper()
	return startServerTo(t, nil, args...)
}

// startServerTo starts a server with its standard output going to stdout.
func startServerTo(t *testing.T, stdout io.Writer, args ...string) *serverProcess {
	t.Helper()
	return startCommand(t, framegate(t, append([]string{"serve"}, args...)...), stdout)
}

// startCommand starts a server that is not started yet.
func startCommand(t *testing.T, cmd *exec.Cmd, stdout io.Writer) *serverProcess {
	t.Helper()
	s := &serverProcess{cmd: cmd}
	s.cmd.Stdout = stdout
	stderr, err := s.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, s.cmd.Start())
	read := make(chan struct{})
	go func() {
		defer close(read)
		for in := bufio.NewReader(stderr); ; {
			line, err := in.ReadString('\n')
			s.mu.Lock()
			s.logs.WriteString(line)
			s.mu.Unlock()
			if err == io.EOF || err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-read
		_ = s.cmd.Wait()
		if t.Failed() {
			t.Log(s.log())
		}
	})
	return s
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.yaml")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func checkHealth(addr string) error {
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err = grpc_health_v1.NewHealthClient(cc).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	return err
}

func TestServe_StartsWithinASecondAndEndsWithZeroOnSIGTERM(t *testing.T) {
	t.Parallel()
	quickest := processLimit // the machine does other things too
	for try := 0; try < 5 && quickest > race.Choose(time.Second, 5*time.Second); try++ {
		addr := loopback.Address(t)
		begin := time.Now()
		s := startServer(t, "--etcd", "none", "--admin", "none", "--listen", addr, "--routes", writeFile(t, "routes: []"))
		require.Eventually(t, func() bool { return checkHealth(addr) == nil }, processLimit, 5*time.Millisecond)
		t.Logf("serving after %s", time.Since(begin))
		quickest = min(quickest, time.Since(begin))

		require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
		state, err := s.cmd.Process.Wait()
		require.NoError(t, err)
		require.Equal(t, 0, state.ExitCode())
		require.Error(t, checkHealth(addr))
	}
	require.Less(t, quickest, race.Choose(time.Second, 5*time.Second))
}

func TestServe_OutlivesTheReaderOfItsAccessLog(t *testing.T) {
	t.Parallel()
	read, write, err := os.Pipe()
	require.NoError(t, err)
	defer read.Close()
	addr, adminAddr := loopback.Address(t), loopback.Address(t)
	config := fmt.Sprintf("{listeners: [{name: main, address: %q}], admin: {address: %q}, etcd: {endpoints: [none]}, routes: {file: %q}, access_log: {path: stdout, sample: 1}}",
		addr, adminAddr, writeFile(t, "routes: []"))
	s := startServerTo(t, write, "--config", writeFile(t, config))
	require.NoError(t, write.Close())
	require.Eventually(t, func() bool { return checkHealth(addr) == nil }, processLimit, 5*time.Millisecond)

	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer cc.Close()
	call := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), processLimit)
		defer cancel()
		require.Equal(t, codes.Unimplemented, status.Code(cc.Invoke(ctx, "/echo.Echo/Say", &emptypb.Empty{}, &emptypb.Empty{})), s.log())
	}
	call()
	line, err := bufio.NewReader(read).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "/echo.Echo/Say")
	require.NoError(t, read.Close()) // as "framegate serve | head -1" does

	dropped := regexp.MustCompile(`(?m)^framegate_access_log_dropped_total [1-9]`)
	for end := time.Now().Add(processLimit); !dropped.MatchString(metricsOf(t, adminAddr)); time.Sleep(10 * time.Millisecond) {
		require.True(t, time.Now().Before(end), "no call was counted as dropped")
		call()
	}
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	state, err := s.cmd.Process.Wait()
	require.NoError(t, err)
	require.Equal(t, 0, state.ExitCode(), state)
}

func metricsOf(t *testing.T, adminAddr string) string {
	t.Helper()
	resp, err := http.Get("http://" + adminAddr + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	metrics, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(metrics)
}

func TestServe_QuickStartOfTheReadme(t *testing.T) {
	t.Parallel()
	addr, etcd := loopback.Address(t), loopback.Address(t)
	config := writeFile(t, fmt.Sprintf("{listeners: [{name: main, address: %q}], admin: {address: none}, etcd: {embedded: {address: %q, dir: data}}}", addr, etcd))
	startServer(t, "--config", config)
	route := writeFile(t, "name: echo\nmatch: [{method: /echo.Echo/*}]\nbackends:\n- endpoints: [{address: \"127.0.0.1:1\"}]\n")
	_, stderr, code := runFramegate(t, "", "route", "put", "-f", route, "--etcd", etcd)
	require.Zero(t, code, stderr)
	out, stderr, code := runFramegate(t, "", "route", "list", "--etcd", etcd)
	require.Zero(t, code, stderr)
	require.Contains(t, out, "echo")

	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer cc.Close()
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err := cc.Invoke(ctx, "/echo.Echo/Say", &emptypb.Empty{}, &emptypb.Empty{})
		return status.Code(err) == codes.Unavailable && strings.HasPrefix(status.Convert(err).Message(), "framegate: connect to 127.0.0.1:1:")
	}, processLimit, 10*time.Millisecond)
}

func TestRun_WrongUsageIsOneLineAndExitTwo(t *testing.T) {
	t.Parallel()
	badConfig := writeFile(t, "listen: x\ndrain: {timeout: 5}")
	for _, c := range []struct {
		args string
		want []string
	}{
		{"", []string{"a command is missing"}},
		{"sreve", []string{`unknown command "sreve"`}},
		{"serve now", []string{`unexpected argument "now"`}},
		{"serve --lisen x", []string{"unknown flag: --lisen"}},
		{"serve --listen here", []string{`listeners[0].address: "here", want host:port`}},
		{"serve --admin here", []string{`admin.address: "here", want host:port or none`}},
		{"serve --etcd none", []string{"routes.file: empty, want a file of routes when etcd.endpoints is none"}},
		{"serve --etcd a,b", []string{`etcd.endpoints: "a", want`, `etcd.endpoints: "b", want`}},
		{"serve --config /none.yaml", []string{"/none.yaml"}},
		{"serve --config " + badConfig, []string{badConfig, "listen: unknown key", `drain.timeout: "5", want a duration`}},
		{"bench", []string{"--target"}},
		{"bench --target nowhere", []string{"--target", `"nowhere"`}},
		{"route", []string{"route"}},
		{"route get", []string{"route get"}},
		{"route list -o xml", []string{`"xml"`}},
		{"endpoint list -o xml", []string{`"xml"`}},
		{"version now", []string{`unexpected argument "now"`}},
	} {
		t.Run(c.args, func(t *testing.T) {
			_, stderr, code := runHere(t, strings.Fields(c.args)...)
			require.Equal(t, 2, code, stderr)
			require.Equal(t, 1, strings.Count(stderr, "\n"), "lines of %q", stderr)
			require.True(t, strings.HasPrefix(stderr, "framegate: "), stderr)
			for _, want := range c.want {
				require.Contains(t, stderr, want)
			}
		})
	}
	_, _, code := runFramegate(t, "", "sreve")
	require.Equal(t, 2, code, "of the process")
}

func TestRun_WhatFailsIsOneLineAndExitOne(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	routes := writeFile(t, "routes: []")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"port in use":    {[]string{"serve", "--etcd", "none", "--admin", "none", "--routes", routes, "--listen", taken.Addr().String()}, "is in use: stop what listens there or choose another address"},
		"bad routes":     {[]string{"serve", "--etcd", "none", "--admin", "none", "--routes", writeFile(t, "routes: [{}]")}, `name: "", want`},
		"no etcd":        {[]string{"route", "list", "--etcd", "127.0.0.1:1", "--timeout", "300ms"}, "127.0.0.1:1"},
		"bad route file": {[]string{"route", "validate", "-f", writeFile(t, "name: X")}, `name: "X", want`},
	} {
		t.Run(name, func(t *testing.T) {
			_, stderr, code := runFramegate(t, "", c.args...)
			require.Equal(t, 1, code, stderr)
			last := strings.TrimSpace(stderr[strings.LastIndex(strings.TrimSpace(stderr), "\n")+1:])
			require.True(t, strings.HasPrefix(last, "framegate: "), stderr)
			require.Contains(t, last, c.want)
		})
	}
}

func TestVersion_NamesWhatItIsBuiltOf(t *testing.T) {
	t.Parallel()
	out, _, code := runFramegate(t, "", "version")
	require.Zero(t, code)
	require.Regexp(t, `^framegate \S+, kitex v\d+\.\d+\.\d+, go1\.`, out)
}

func TestDemo_ShowsEveryCallAndThatAllIsWell(t *testing.T) {
	t.Parallel()
	out, stderr, code := runFramegate(t, "", "demo")
	require.Zero(t, code, stderr)
	require.Empty(t, stderr)
	for _, want := range []string{
		"/echo.Echo/Say", "/echo.Echo/Collect", "/echo.Echo/Stream", "/echo.Echo/Chat", "/shop.Shop/Price",
		"business error 404: no such item", "echo-2 heard hello", "\nall is well\n",
	} {
		require.Contains(t, out, want)
	}
	require.NotContains(t, out, "FAILED")
}
