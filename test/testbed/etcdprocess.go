package testbed

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/framegate/framegate/resolver/etcdserver"
)

const (
	etcdProcessDirEnv     = "TEST_ETCD_PROCESS_DIR"
	etcdProcessAddressEnv = "TEST_ETCD_PROCESS_ADDRESS"
)

// EtcdProcess is an etcd in a process of its own, which can be killed and started again with its data.
type EtcdProcess struct {
	Endpoint string

	t   testing.TB
	dir string
	cmd *exec.Cmd // nil while it does not run; owned by the test's goroutine
}

// NewEtcdProcess starts an etcd process that keeps its data in a directory of the test. TestMain must call
// IsEtcdProcess and RunEtcdProcess: the process is the test's own binary.
func NewEtcdProcess(t testing.TB) *EtcdProcess {
	t.Helper()
	e := &EtcdProcess{t: t, dir: t.TempDir(), Endpoint: OwnHost() + ":0"}
	t.Cleanup(e.Kill)
	e.Start()
	return e
}

// Start starts a killed etcd at its earlier endpoint, and returns when it serves.
func (e *EtcdProcess) Start() {
	e.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), etcdProcessDirEnv+"="+e.dir, etcdProcessAddressEnv+"="+e.Endpoint)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		e.t.Fatalf("etcd process: %v", err)
	}
	if _, err := cmd.StdinPipe(); err != nil { // EOF tells the process that the test has ended
		e.t.Fatalf("etcd process: %v", err)
	}
	if err := cmd.Start(); err != nil {
		e.t.Fatalf("etcd process: %v", err)
	}
	e.cmd = cmd
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		e.t.Fatalf("etcd process said nothing: %v", err)
	}
	e.Endpoint = strings.TrimSpace(line)
}

// Kill ends the process at once, as a crash does. It may be called more than once.
func (e *EtcdProcess) Kill() {
	if e.cmd == nil {
		return
	}
	_ = e.cmd.Process.Kill()
	_ = e.cmd.Wait()
	e.cmd = nil
}

// IsEtcdProcess reports whether this process was started by NewEtcdProcess or NewEtcdCluster.
func IsEtcdProcess() bool { return os.Getenv(etcdProcessDirEnv)+os.Getenv(etcdMemberEnv) != "" }

// RunEtcdProcess serves etcd until the process that started this one has ended.
func RunEtcdProcess() {
	if member := os.Getenv(etcdMemberEnv); member != "" {
		if err := runEtcdMember(member); err != nil {
			fmt.Fprintln(os.Stderr, "etcd member:", err)
			os.Exit(1)
		}
		return
	}
	s, err := etcdserver.Start(context.Background(), etcdserver.Config{Dir: os.Getenv(etcdProcessDirEnv), Address: os.Getenv(etcdProcessAddressEnv)})
	if err != nil {
		fmt.Fprintln(os.Stderr, "etcd process:", err)
		os.Exit(1)
	}
	fmt.Println(s.Endpoint())
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = s.Close()
}
