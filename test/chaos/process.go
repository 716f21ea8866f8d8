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

// roleEnv, set in the environment, makes the test's binary be a process of the harness.
const roleEnv = "TEST_CHAOS_ROLE"

// The roles.
const (
	roleBackend   = "backend"
	roleFramegate = "framegate"
)

// RunProcess is the first thing that a TestMain calls: in a process of the harness it does not return.
func RunProcess() {
	switch os.Getenv(roleEnv) {
	case roleBackend:
		os.Exit(runBackend(os.Args[1:]))
	case roleFramegate:
		os.Exit(runFramegate(os.Args[1:]))
	}
}

// process is the test's binary in a role. It dies with the test.
type process struct {
	t      testing.TB
	role   string
	cmd    *exec.Cmd
	out    *os.File  // what it prints
	stderr *lastText // what it complains of

	exited chan struct{} // closed by reap
	err    error         // of the end; read after exited
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
	// With the race detector a process would otherwise stay for a second when it has ended.
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

// pid is the process's number.
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
		_, state, _ := strings.Cut(string(text), ") ") // proc(5): the state comes after the name
		if !strings.HasPrefix(state, "T") {
			return fmt.Errorf("%s: state %.1q, want T", stat, state)
		}
	}
	return nil
}

// kill ends the process at once and returns when it is gone, and the kernel has closed what it had open.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// wait returns when the process has ended by itself, within limit and with 0; otherwise the test fails.
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

// maxLastText is how much of a process's stderr is kept.
const maxLastText = 32 << 10

// lastText keeps the last part of what is written to it.
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
