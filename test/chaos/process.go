package chaos

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// roleEnv is the environment variable that tells the test's binary to run as a process of the harness, and its role.
const roleEnv = "TEST_CHAOS_ROLE"

// The roles.
const (
	roleBackend   = "backend"
	roleFramegate = "framegate"
)

// RunProcess must be called first by TestMain. In a process of the harness it runs the role and exits; else it returns.
func RunProcess() {
	switch os.Getenv(roleEnv) {
	case roleBackend:
		os.Exit(runBackend(os.Args[1:]))
	case roleFramegate:
		os.Exit(runFramegate(os.Args[1:]))
	}
}

// process is a process that runs the test's binary in a role. The kernel kills it when the test's process dies.
type process struct {
	t      testing.TB
	role   string
	cmd    *exec.Cmd
	out    *os.File  // its standard output
	stderr *lastText // the end of its standard error

	exited chan struct{} // closed by reap
	err    error         // the error of Wait; set before exited is closed
}

// startProcess starts the test's binary; env is added to the environment.
func startProcess(t testing.TB, role string, args []string, env ...string) *process {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatalf("%s process: %v", role, err)
	}
	defer w.Close()
	p := &process{
		t: t, role: role, cmd: exec.Command(os.Args[0], args...), out: r, stderr: new(lastText), exited: make(chan struct{}),
	}
	// By default the race detector delays the exit of a process by a second.
	p.cmd.Env = append(append(os.Environ(), roleEnv+"="+role, "GORACE=atexit_sleep_ms=0"), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Stdout, p.cmd.Stderr = w, p.stderr
	if err := p.cmd.Start(); err != nil {
		r.Close()
		t.Fatalf("%s process: %v", role, err)
	}
	go p.reap()
	return p
}

func (p *process) reap() {
	defer close(p.exited)
	defer p.out.Close()
	p.err = p.cmd.Wait()
}

// pid returns the process id.
func (p *process) pid() int { return p.cmd.Process.Pid }

// firstLine returns the first line that the process prints.
func (p *process) firstLine() string {
	p.t.Helper()
	s, err := bufio.NewReader(p.out).ReadString('\n')
	if err != nil {
		p.t.Fatalf("%s process %d said nothing: %v; its stderr: %s", p.role, p.pid(), err, p.stderr)
	}
	return strings.TrimSpace(s)
}

// signal sends a signal to the process, which must run.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("%s process %d: signal %s: %v; its stderr: %s", p.role, p.pid(), s, err, p.stderr)
	}
}

// checkStopped returns nil when every thread of the process is stopped.
func (p *process) checkStopped() error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.pid()))
	if err != nil {
		return err
	}
	for _, stat := range threads {
		text, err := os.ReadFile(stat)
		if err != nil {
			return err
		}
		_, state, _ := strings.Cut(string(text), ") ") // proc(5): the state follows the name, in parentheses
		if !strings.HasPrefix(state, "T") {
			return fmt.Errorf("%s: state %.1q, want T", stat, state)
		}
	}
	return nil
}

// kill kills the process and returns when it is gone. The kernel has closed its connections by then.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// wait waits for the process to end by itself. The test fails if it takes longer than limit, or if its exit code is not 0.
func (p *process) wait(limit time.Duration) {
	p.t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.exited:
		if p.err != nil {
			p.t.Errorf("%s process %d: got %v, want an end with 0; its stderr: %s", p.role, p.pid(), p.err, p.stderr)
		}
	case <-timer.C:
		p.t.Errorf("%s process %d: still runs after %s; its stderr: %s", p.role, p.pid(), limit, p.stderr)
		p.kill()
	}
}

// maxLastText is how many bytes a lastText keeps.
const maxLastText = 32 << 10

// lastText is a writer that keeps the last maxLastText bytes.
type lastText struct {
	mu   sync.Mutex // guards text
	text []byte
}

var _ io.Writer = (*lastText)(nil)

func (l *lastText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	if over := len(l.text) - maxLastText; over > 0 {
		l.text = append(l.text[:0], l.text[over:]...)
	}
	return len(p), nil
}

func (l *lastText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}
