//go:build unix

package app

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/loopback"
	"github.com/framegate/framegate/test/testlog"
)

// registerProcess is a running "framegate service register" of the instance echo 127.0.0.1:9001.
type registerProcess struct {
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr testlog.Buffer
}

func startRegister(t *testing.T, etcd string, args ...string) *registerProcess {
	t.Helper()
	p := &registerProcess{cmd: framegate(t, append([]string{"service", "register", "--name", "echo", "--address", "127.0.0.1:9001", "--etcd", etcd}, args...)...)}
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.stdout, p.cmd.Stderr = bufio.NewReader(out), &p.stderr
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Log(p.stderr.String())
		}
	})
	return p
}

func (p *registerProcess) line(t *testing.T) string {
	t.Helper()
	line, err := p.stdout.ReadString('\n')
	require.NoError(t, err, p.stderr.String())
	return line
}

// end waits for the process, and all that it said, and returns its exit code. No line is read after it.
func (p *registerProcess) end(t *testing.T) int {
	t.Helper()
	if _, exited := p.cmd.Wait().(*exec.ExitError); !exited {
		require.NotNil(t, p.cmd.ProcessState)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (c *serviceCLI) eventually(instances int) {
	c.t.Helper()
	require.Eventually(c.t, func() bool { return len(c.instances()) == instances }, processLimit, 5*time.Millisecond)
}

// stay checks for a while that the instance is there.
func (c *serviceCLI) stay(long time.Duration, want spec.Instance) {
	c.t.Helper()
	for until := time.Now().Add(long); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		require.Equal(c.t, []spec.Instance{want}, c.instances())
	}
}

var echoAt9001 = spec.Instance{Address: "127.0.0.1:9001", Weight: 10}

func TestServiceRegister_StaysUntilSIGTERM(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			c := newServiceCLI(t)
			p := startRegister(t, c.endpoint, "--weight", "20", "--tags", "cluster=a,zone=1", "--ttl", "4s")
			require.Equal(t, "service echo: 127.0.0.1:9001 registered (revision 2)\n", p.line(t))
			c.stay(9*time.Second, spec.Instance{Address: "127.0.0.1:9001", Weight: 20, Tags: map[string]string{"cluster": "a", "zone": "1"}})
			require.NoError(t, p.cmd.Process.Signal(sig))
			require.Zero(t, p.end(t))
			require.Empty(t, c.instances())
		})
	}
}

func TestServiceRegister_TwiceIsOnceAndADeathRunsOut(t *testing.T) {
	t.Parallel()
	c := newServiceCLI(t)
	first := startRegister(t, c.endpoint, "--ttl", "4s")
	line := first.line(t)
	second := startRegister(t, c.endpoint, "--ttl", "4s", "-o", "json")
	require.Contains(t, second.line(t)+second.line(t)+second.line(t), `"outcome": "registered"`)
	require.Equal(t, "service echo: 127.0.0.1:9001 registered (revision 2)\n", line)
	resp, err := c.cli.Get(t.Context(), "any")
	require.NoError(t, err)
	require.EqualValues(t, 3, resp.Header.Revision, "the second wrote it once, on a lease of its own")

	require.NoError(t, first.cmd.Process.Kill())
	c.stay(8*time.Second, echoAt9001) // the second has it
	require.NoError(t, second.cmd.Process.Kill())
	began := time.Now()
	c.eventually(0)
	t.Logf("gone %s after a SIGKILL, with a ttl of 4s", time.Since(began).Round(time.Millisecond))
}

func TestServiceRegister_ReturnsTheCommandsExitCode(t *testing.T) {
	t.Parallel()
	c := newServiceCLI(t)
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -9 $$": 128 + 9, "kill -TERM $$": 128 + 15} {
		// The command ends once its standard input does: by then it is registered.
		p := startRegisterWithInput(t, c.endpoint, "echo up; cat; echo done; "+script)
		require.Equal(t, "up\n", p.line(t))
		c.eventually(1)
		require.NoError(t, p.stdin.Close())
		require.Equal(t, "done\n", p.line(t))
		require.Equal(t, want, p.end(t), script)
		require.Empty(t, c.instances(), "deregistered before framegate ends")
		require.NotContains(t, p.stderr.String(), "framegate: ", "no error of framegate's own")
	}
}

type registerWithInput struct {
	*registerProcess
	stdin io.WriteCloser
}

func startRegisterWithInput(t *testing.T, etcd, script string) *registerWithInput {
	t.Helper()
	p := &registerWithInput{registerProcess: &registerProcess{}}
	p.cmd = framegate(t, "service", "register", "--name", "echo", "--address", "127.0.0.1:9001", "--etcd", etcd, "--", "sh", "-c", script)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.stdout, p.cmd.Stderr = bufio.NewReader(out), &p.registerProcess.stderr
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = p.stdin.Close()
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Log(p.stderr.String())
		}
	})
	return p
}

func TestServiceRegister_PassesSignalsOnAndLeavesBeforeTheCommandEnds(t *testing.T) {
	// What nohup, and shells with background jobs, leave ignored no shell can trap; what is caught here is not ignored there.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP, syscall.SIGINT)
	defer signal.Stop(caught)

	c := newServiceCLI(t)
	p := startRegister(t, c.endpoint, "--", "sh", "-c", `
		sleep 30 >/dev/null 2>&1 &
		trap 'echo reload' HUP
		trap 'echo draining' TERM
		trap 'echo impatient' INT
		trap 'kill $!; exit 3' USR1
		echo up
		while kill -0 $!; do wait $!; done`)
	require.Equal(t, "up\n", p.line(t))
	c.eventually(1)
	send := func(s syscall.Signal) { require.NoError(t, p.cmd.Process.Signal(s)) }
	send(syscall.SIGHUP)
	require.Equal(t, "reload\n", p.line(t))
	require.Len(t, c.instances(), 1, "this one does not end it")
	send(syscall.SIGTERM)
	require.Equal(t, "draining\n", p.line(t))
	c.eventually(0)
	send(syscall.SIGINT)
	require.Equal(t, "impatient\n", p.line(t), "a second signal ends framegate no sooner than COMMAND")
	send(syscall.SIGUSR1)
	require.Equal(t, 3, p.end(t))
}

func TestServiceRegister_ReturnsTheExitCodeWithEtcdGone(t *testing.T) {
	t.Parallel()
	c := newServiceCLI(t)
	p := startRegisterWithInput(t, c.endpoint, "cat; exit 5")
	c.eventually(1)
	require.NoError(t, c.server.Close())
	began := time.Now()
	require.NoError(t, p.stdin.Close())
	require.Equal(t, 5, p.end(t))
	require.Less(t, time.Since(began), processLimit/4)
	require.Contains(t, p.stderr.String(), "cannot deregister; the lease will run out")
}

func TestServiceRegister_RunsTheCommandWithoutEtcd(t *testing.T) {
	t.Parallel()
	etcd := loopback.Address(t)
	p := startRegisterWithInput(t, etcd, "echo up; cat; exit 5")
	require.Equal(t, "up\n", p.line(t))
	require.Eventually(t, func() bool { return strings.Contains(p.stderr.String(), "cannot register in etcd; trying on") }, processLimit, 10*time.Millisecond)
	require.NoError(t, p.stdin.Close())
	require.Equal(t, 5, p.end(t))
	require.NotContains(t, p.stderr.String(), "deregister", "there is nothing to")

	config := writeFile(t, fmt.Sprintf("{listeners: [{name: main, address: %q}], admin: {address: none}, etcd: {embedded: {address: %q, dir: data}}}", loopback.Address(t), etcd))
	late := startRegister(t, etcd)
	require.Eventually(t, func() bool { return strings.Contains(late.stderr.String(), "cannot register in etcd; trying on") }, processLimit, 10*time.Millisecond)
	startServer(t, "--config", config)
	require.Contains(t, late.line(t), "service echo: 127.0.0.1:9001 registered")
	out, stderr, code := runFramegate(t, "", "service", "list", "echo", "--etcd", etcd)
	require.Zero(t, code, stderr)
	require.Contains(t, out, "127.0.0.1:9001")
}

func TestServiceRegister_NamesACommandThatCannotStart(t *testing.T) {
	t.Parallel()
	c := newServiceCLI(t)
	_, stderr, code := runFramegate(t, "", "service", "register", "--name", "echo", "--address", "h:1", "--etcd", c.endpoint, "--", "no-such-command")
	require.Equal(t, exitFailed, code)
	require.Equal(t, "framegate: COMMAND: exec: \"no-such-command\": executable file not found in $PATH\n", stderr)
	require.Empty(t, c.instances())
}

// The arguments of COMMAND are its own, also those that look like flags of framegate.
func TestServiceRegister_LeavesTheCommandsArgumentsAlone(t *testing.T) {
	t.Parallel()
	c := newServiceCLI(t)
	out, stderr, code := runFramegate(t, "", "service", "register", "--name", "echo", "--address", "h:1", "--etcd", c.endpoint, "--",
		"sh", "-c", `echo "$@"`, "sh", "--name", "other", "--", "-o", "x")
	require.Zero(t, code, stderr)
	require.Equal(t, "--name other -- -o x\n", out)
}

func TestServiceRegister_KeepsItsSecretsFromTheCommand(t *testing.T) {
	t.Setenv("FRAMEGATE_ETCD_PASSWORD", "s3cret")
	t.Setenv("FRAMEGATE_ADMIN_TOKEN", "s3cret")
	t.Setenv("FRAMEGATE_ETCD_PASSWORDS", "another's")
	c := newServiceCLI(t)
	out, stderr, code := runFramegate(t, "", "service", "register", "--name", "echo", "--address", "h:1", "--etcd", c.endpoint, "--", "env")
	require.Zero(t, code, stderr)
	require.Contains(t, out, "FRAMEGATE_ETCD_PASSWORDS=another's\n")
	require.NotContains(t, out, "s3cret")
}
