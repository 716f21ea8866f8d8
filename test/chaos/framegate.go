package chaos

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/framegate/framegate/cmd/framegate/app"
)

func runFramegate(args []string) int {
	return app.Run(context.Background(), args, os.Stdin, os.Stdout, os.Stderr)
}

// FramegateConfig is the part of a framegate's configuration that tests choose.
type FramegateConfig struct {
	Address      string        // of its listener; not port 0
	Listener     string        // further keys of the listener, as in a YAML flow mapping; may be empty
	Routes       string        // the document of its routes
	DrainTimeout time.Duration // how long calls may go on after SIGTERM; 0 = 30s
}

// document returns the configuration file.
func (c FramegateConfig) document(admin, routes string) string {
	listener := fmt.Sprintf("name: main, address: %q", c.Address)
	if c.Listener != "" {
		listener += ", " + c.Listener
	}
	drain := c.DrainTimeout
	if drain == 0 {
		drain = 30 * time.Second
	}
	return fmt.Sprintf("listeners: [{%s}]\nadmin: {address: %q, pprof: true}\netcd: {endpoints: [none], snapshot: \"\"}\n"+
		"routes: {file: %q}\ndrain: {timeout: %s}\n", listener, admin, routes, drain)
}

// Framegate is a framegate in a process of its own. Its methods are for the test's goroutine.
type Framegate struct {
	Address string
	Admin   string // the URL of its admin server

	drain time.Duration
	p     *process
}

// StartFramegate starts a framegate and returns when it is ready.
func StartFramegate(t testing.TB, c FramegateConfig) *Framegate {
	t.Helper()
	dir := t.TempDir()
	config, routes := filepath.Join(dir, "framegate.yaml"), filepath.Join(dir, "routes.yaml")
	admin := FreeAddress(t)
	for path, text := range map[string]string{config: c.document(admin, routes), routes: c.Routes} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatalf("framegate process: %v", err)
		}
	}
	f := &Framegate{Address: c.Address, Admin: "http://" + admin, drain: c.DrainTimeout}
	f.p = startProcess(t, roleFramegate, []string{"serve", "--config", config})
	t.Cleanup(f.p.kill)
	f.awaitReady()
	return f
}

func (f *Framegate) awaitReady() {
	f.p.t.Helper()
	client := http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if resp, err := client.Get(f.Admin + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-tick.C:
		case <-f.p.exited:
			f.p.t.Fatalf("framegate process: %v; its stderr: %s", f.p.err, f.p.stderr)
		case <-limit.C:
			f.p.t.Fatalf("framegate process: not ready after %s; its stderr: %s", patience, f.p.stderr)
		}
	}
}

// PID returns the process id.
func (f *Framegate) PID() int { return f.p.pid() }

// Terminate sends SIGTERM, on which the framegate drains, and does not wait.
func (f *Framegate) Terminate() { f.p.signal(syscall.SIGTERM) }

// Wait waits for the end of the framegate after Terminate. It fails the test if that takes longer than a drain may.
func (f *Framegate) Wait() { f.p.wait(f.drain + patience) }

// FreeAddress returns an address of 127.0.0.1 with a port that is free now.
func FreeAddress(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("free port: %v", err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
