package test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/kitex_gen/echo"
	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/testbed"
)

// framegateEnv, in the environment, makes the test's binary be framegate.
const framegateEnv = "FRAMEGATE_TEST_FRAMEGATE"

// drainTimeout is how long calls may go on in a process that is told to end.
const drainTimeout = 20 * time.Second

// process is a running "framegate serve".
type process struct {
	cmd   *exec.Cmd
	admin string
	log   bytes.Buffer
	ended chan error
}

// startProcess starts framegate with a configuration that says all but the address of the admin server, and returns when
// it is ready.
func startProcess(t *testing.T, config string) *process {
	t.Helper()
	p := &process{admin: testbed.FreeAddress(t), ended: make(chan error, 1)}
	p.cmd = exec.Command(os.Args[0], "serve", "--config", config, "--admin", p.admin)
	p.cmd.Env = append(os.Environ(), framegateEnv+"=1", "GORACE=atexit_sleep_ms=0")
	p.cmd.Stderr = &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // with the test, however that ends
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	go func() { p.ended <- p.cmd.Wait() }()
	testbed.Poll(t, func() error {
		resp, err := http.Get("http://" + p.admin + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz: %s", resp.Status)
		}
		return nil
	})
	return p
}

// drain makes the process end, by a signal or through its admin server.
func (p *process) drain(t *testing.T, bySignal bool) {
	t.Helper()
	if bySignal {
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	} else {
		resp, err := http.Post("http://"+p.admin+"/v1/drain", "", nil)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusAccepted, resp.StatusCode)
	}
	select {
	case err := <-p.ended:
		require.NoError(t, err, "%s", p.log.String())
	case <-time.After(drainTimeout + testbed.Patience):
		t.Fatalf("the old process has not ended: %s", p.log.String())
	}
}

// drainingProcess starts a process, opens a call through it that does not end, and makes it drain.
func drainingProcess(t *testing.T, drain func(p *process)) (*process, rawPair, [2]*testbed.H2Stream) {
	t.Helper()
	server, dir, addr := testbed.NewH2Server(t), t.TempDir(), testbed.FreeAddress(t)
	config := filepath.Join(dir, "framegate.yaml")
	routes := filepath.Join(dir, "routes.yaml")
	require.NoError(t, os.WriteFile(routes, []byte(testbed.RouteTo(server.Addr)), 0o600))
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "{listeners: [{name: main, address: %q}], etcd: {endpoints: [none]}, routes: {file: %q}}", addr, routes), 0o600))
	p := startProcess(t, config)
	pair := rawPair{client: testbed.DialH2(t, addr), server: server}
	cs, ss, _ := pair.open(t, testbed.RequestFields())
	drain(p)
	pair.client.AwaitGoAway(t)
	return p, pair, [2]*testbed.H2Stream{cs, ss}
}

func TestDrain_Signals(t *testing.T) {
	t.Parallel()
	t.Run("the second ends the process at once", func(t *testing.T) {
		p, _, _ := drainingProcess(t, func(p *process) { require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM)) })
		begin := time.Now()
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
		require.Error(t, testbed.Await(t, p.ended, "the end of the process"), "it was killed")
		require.Less(t, time.Since(begin), testbed.Patience)
	})
	// An orchestrator may ask through the admin server first and send its signal later: calls still end by themselves.
	t.Run("the first after a request to drain is not a second", func(t *testing.T) {
		p, pair, streams := drainingProcess(t, func(p *process) {
			answerOfAdmin(t, http.MethodPost, "http://"+p.admin+"/v1/drain", "", http.StatusAccepted)
		})
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
		answerOfAdmin(t, http.MethodPost, "http://"+p.admin+"/v1/drain", "", http.StatusAccepted)
		pair.complete(t, streams[0], streams[1])
		require.NoError(t, testbed.Await(t, p.ended, "the end of the process"), "%s", p.log.String())
	})
}

// tally counts calls of one kind.
type tally struct {
	name         string
	good, failed atomic.Int64
	first        atomic.Pointer[string] // of the errors
}

func (c *tally) count(err error) {
	if err == nil {
		c.good.Add(1)
		return
	}
	c.failed.Add(1)
	msg := fmt.Sprintf("%s: %v", time.Now().Format("05.000"), err)
	c.first.CompareAndSwap(nil, &msg)
}

// openLoop makes calls in an open loop until its context ends: a call starts at its time, however long others take.
type openLoop struct {
	ctx context.Context
	wg  sync.WaitGroup
	all []*tally
}

// every starts f each time that interval has passed, less often under the race detector, which makes each call dear.
func (l *openLoop) every(interval time.Duration, name string, f func(ctx context.Context) error) {
	interval *= race.Choose[time.Duration](1, 5)
	c := &tally{name: name}
	l.all = append(l.all, c)
	l.wg.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-l.ctx.Done():
				return
			case <-tick.C:
			}
			l.wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), testbed.Patience)
				defer cancel()
				c.count(f(ctx))
			})
		}
	})
}

// freshCall makes one call on a connection of its own.
func freshCall(ctx context.Context, t *testing.T, addr string) error {
	cc := testbed.DialGRPC(t, addr)
	defer cc.Close()
	_, err := testbed.Unary(ctx, cc, text("fresh"))
	return err
}

// freshConnection connects, and wants to be served: what is lost in a listener's queue shows as a reset.
func freshConnection(addr string) error {
	nc, err := net.DialTimeout("tcp", addr, testbed.Patience)
	if err != nil {
		return err
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(testbed.Patience))
	if _, err := nc.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		return err
	}
	_, err = nc.Read(make([]byte, 1))
	return err
}

// TestRestart_UnderLoadLosesNoCall replaces framegate a few times under load. Each new process listens beside the old one,
// which then drains.
func TestRestart_UnderLoadLosesNoCall(t *testing.T) {
	restarts := race.Choose(5, 3)
	addr := testbed.FreeAddress(t)
	dir := t.TempDir()
	routes, config := filepath.Join(dir, "routes.yaml"), filepath.Join(dir, "framegate.yaml")
	require.NoError(t, os.WriteFile(routes, fmt.Appendf(nil, `routes:
- {name: kitex, match: [{method: /echo.Echo/*}], backends: [{endpoints: [{address: %q}]}]}
- {name: raw, match: [{method: "*"}], backends: [{endpoints: [{address: %q}]}]}
`, testbed.NewEcho(t, &testbed.Echo{}), testbed.NewRaw(t, echoAll)), 0o600))
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
listeners: [{name: main, address: %q, reuse_port: true}]
etcd: {endpoints: [none]}
routes: {file: %q}
drain: {timeout: %s}
`, addr, routes, drainTimeout), 0o600))
	old := startProcess(t, config)

	ctx, stop := context.WithCancel(context.Background())
	l := &openLoop{ctx: ctx}
	t.Cleanup(l.wg.Wait)
	t.Cleanup(stop)
	for range 3 {
		cc := testbed.DialGRPC(t, addr)
		l.every(16*time.Millisecond, "grpc-go, long-lived", func(ctx context.Context) error {
			_, err := testbed.Unary(ctx, cc, text("long-lived"))
			return err
		})
		l.every(100*time.Millisecond, "grpc-go, stream of half a second", func(ctx context.Context) error {
			stream, err := testbed.Call(ctx, cc)
			if err != nil {
				return err
			}
			for range 10 {
				if err := exchange(stream); err != nil {
					return err
				}
				time.Sleep(50 * time.Millisecond) // the stream is open for some time: it waits for nothing
			}
			return stream.CloseSend()
		})
	}
	for range 2 {
		kc := testbed.DialEcho(t, addr)
		l.every(16*time.Millisecond, "Kitex, long-lived", func(ctx context.Context) error {
			for {
				_, err := kc.Say(ctx, &echo.Request{Message: "hello"})
				if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "the connection is draining") {
					return err
				}
				// Kitex's client had chosen a connection that was told to go away just then, and does not turn to another one
				// (nphttp2, NewStream). It has sent nothing. The next one may be told so too.
			}
		})
	}
	l.every(10*time.Millisecond, "grpc-go, a connection each", func(ctx context.Context) error { return freshCall(ctx, t, addr) })
	for range 4 {
		l.every(8*time.Millisecond, "bare connections", func(context.Context) error { return freshConnection(addr) })
	}

	for i := range restarts {
		next := startProcess(t, config)
		old.drain(t, i%2 == 0)
		old = next
	}
	stop()
	l.wg.Wait()
	old.drain(t, true)
	report(t, l.all)
}

// report wants calls of every kind, and that none has failed.
func report(t *testing.T, all []*tally) {
	t.Helper()
	for _, c := range all {
		t.Logf("%s: %d good, %d failed", c.name, c.good.Load(), c.failed.Load())
		require.NotZero(t, c.good.Load(), c.name)
		if first := c.first.Load(); first != nil {
			t.Errorf("%s: %d of %d failed, the first at %s", c.name, c.failed.Load(), c.failed.Load()+c.good.Load(), *first)
		}
	}
}
