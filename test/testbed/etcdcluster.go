package testbed

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/etcd/server/v3/embed"
)

// etcdMemberEnv is the environment variable that tells the test's binary to run as a member; its value is an etcdMember in
// JSON.
const etcdMemberEnv = "TEST_ETCD_MEMBER"

// etcdMember is the configuration of one member of a cluster.
type etcdMember struct {
	Name, Dir, Client, Peer string
	Cluster                 string // all members, in the form of etcd's --initial-cluster
}

// EtcdCluster is an etcd of several members, each in a process of its own.
type EtcdCluster struct {
	Members []*EtcdMember
}

// EtcdMember is a member of an EtcdCluster. It can be stopped so that its connections stay open but get no answer, as those
// of a machine that hangs.
type EtcdMember struct {
	Endpoint string

	t   testing.TB
	cmd *exec.Cmd
}

// NewEtcdCluster starts an etcd of so many members, which keep their data in directories of the test, and returns when all
// serve. TestMain must do what NewEtcdProcess asks for.
func NewEtcdCluster(t testing.TB, members int) *EtcdCluster {
	t.Helper()
	var all []string
	configs := make([]etcdMember, members)
	for i := range configs {
		m := etcdMember{Name: fmt.Sprintf("m%d", i), Dir: t.TempDir(), Client: FreeAddress(t), Peer: FreeAddress(t)}
		all = append(all, fmt.Sprintf("%s=http://%s", m.Name, m.Peer))
		configs[i] = m
	}
	c := &EtcdCluster{}
	var lines []*bufio.Reader
	for _, m := range configs {
		m.Cluster = strings.Join(all, ",")
		member := &EtcdMember{Endpoint: m.Client, t: t}
		lines = append(lines, member.start(m))
		c.Members = append(c.Members, member)
	}
	for i, line := range lines {
		if _, err := line.ReadString('\n'); err != nil {
			t.Fatalf("etcd member %d said nothing: %v", i, err)
		}
	}
	return c
}

// Endpoints returns where the members serve clients.
func (c *EtcdCluster) Endpoints() []string {
	all := make([]string, len(c.Members))
	for i, m := range c.Members {
		all[i] = m.Endpoint
	}
	return all
}

func (m *EtcdMember) start(cfg etcdMember) *bufio.Reader {
	m.t.Helper()
	doc, err := json.Marshal(cfg)
	if err != nil {
		m.t.Fatalf("etcd member: %v", err)
	}
	m.cmd = exec.Command(os.Args[0])
	m.cmd.Env = append(os.Environ(), etcdMemberEnv+"="+string(doc))
	m.cmd.Stderr = os.Stderr
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := m.cmd.StdoutPipe()
	if err == nil {
		_, err = m.cmd.StdinPipe() // EOF tells the process that the test has ended
	}
	if err == nil {
		err = m.cmd.Start()
	}
	if err != nil {
		m.t.Fatalf("etcd member: %v", err)
	}
	m.t.Cleanup(func() {
		_ = m.cmd.Process.Kill() // SIGKILL ends a stopped process, too
		_ = m.cmd.Wait()
	})
	return bufio.NewReader(out)
}

// Stop stops the member with SIGSTOP, until Continue or the end of the test.
func (m *EtcdMember) Stop() { m.signal(syscall.SIGSTOP) }

// Continue lets a stopped member go on.
func (m *EtcdMember) Continue() { m.signal(syscall.SIGCONT) }

func (m *EtcdMember) signal(s syscall.Signal) {
	m.t.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		m.t.Fatalf("etcd member at %s: %v", m.Endpoint, err)
	}
}

// runEtcdMember serves as a member until the process that started this one has ended.
func runEtcdMember(doc string) error {
	var m etcdMember
	if err := json.Unmarshal([]byte(doc), &m); err != nil {
		return err
	}
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.InitialCluster, cfg.LogLevel, cfg.UnsafeNoFsync = m.Name, m.Dir, m.Cluster, "fatal", true
	client, peer := url.URL{Scheme: "http", Host: m.Client}, url.URL{Scheme: "http", Host: m.Peer}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		return errors.Join(errors.New("it ended"), err)
	}
	fmt.Println(m.Client)
	_, _ = io.Copy(io.Discard, os.Stdin)
	e.Close()
	return nil
}
