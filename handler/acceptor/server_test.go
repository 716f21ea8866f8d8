package acceptor

import (
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/together"
)

func TestMain(m *testing.M) {
	klog.SetLevel(klog.LevelFatal)
	together.Wait(8)
	os.Exit(m.Run())
}

const waitLimit = 30 * time.Second

// greeting is what the connections of the tests' data plane say to whoever says something.
const greeting = "HTTP/1.1 505"

// greeter is a data plane without calls.
type greeter struct{}

func (greeter) Offences() []string { return []string{"rude"} }

func (greeter) Conn(nc net.Conn, _ *Server) Conn { return &greeted{Conn: nc} }

type greeted struct {
	net.Conn
	once sync.Once
}

func (c *greeted) Serve() {
	defer c.Cut()
	if _, err := c.Read(make([]byte, 1)); err != nil {
		return
	}
	_, _ = io.WriteString(c, greeting)
	_, _ = io.Copy(io.Discard, c)
}

func (c *greeted) Drain()     { _ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) }
func (c *greeted) Cut()       { c.once.Do(func() { _ = c.Close() }) }
func (c *greeted) Calls() int { return 0 }

// running is a server that runs until stop.
type running struct {
	acceptor *Acceptor
	server   remote.TransServer
	addr     string
	done     chan struct{}
	once     sync.Once
}

func start(t *testing.T, addr string, cfg Config) *running {
	t.Helper()
	reuse := OwnPort
	if cfg.ReusePort {
		reuse = ReusePort
	}
	ln, err := Listen(t.Context(), addr, reuse)
	require.NoError(t, err)
	return startOn(t, ln, cfg)
}

func startOn(t *testing.T, ln net.Listener, cfg Config) *running {
	t.Helper()
	a := New(cfg, greeter{})
	r := &running{acceptor: a, server: a.NewTransServer(&remote.ServerOption{ExitWaitTime: waitLimit}, nil), addr: ln.Addr().String(), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		_ = r.server.BootstrapServer(ln)
	}()
	t.Cleanup(func() { r.stop(t) })
	<-a.Serving()
	require.NoError(t, r.check())
	return r
}

func (r *running) stop(t *testing.T) {
	r.once.Do(func() { require.NoError(t, r.server.Shutdown()) })
	select {
	case <-r.done:
	case <-time.After(2 * waitLimit):
		t.Error("the server did not stop")
	}
}

func (r *running) check() error { return served(r.addr) }
