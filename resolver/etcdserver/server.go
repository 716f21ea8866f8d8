// Package etcdserver runs etcd inside the process: one member that keeps its data on disk and serves clients on one
// address.
//
// Enter at Start; then config.go (where, and who may use it), serve.go (what clients see), users.go (the user), datadir.go
// (who may use the directory) and trap.go (why a failure of etcd is not the end of the process).
package etcdserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/framegate/framegate/resolver/strict"
)

const (
	// peerURL is what the member says of itself in the member list. It has no peers and so no peer listener: any number
	// of embedded etcds run on one machine. The address only has to be well formed and the same at each start.
	peerURL = "http://127.0.0.1:0"

	// A lone member has nobody to hear from, so its election timeout is only how long a start takes.
	tick            = 50 * time.Millisecond
	electionTimeout = 250 * time.Millisecond

	// keptRevisions is how many changes of the whole store stay readable, for the history of routes; older ones are
	// compacted. Documents are about 1 KiB, so this is some 10 MiB of etcd's quota of 2 GiB.
	keptRevisions = 10_000

	readyTimeout = 30 * time.Second // of Start; it needs less than one second unless there is much to read from disk
	closeTimeout = 15 * time.Second // how long Close waits for etcd; it needs less than one second

	// brokenCloseTimeout is closeTimeout for an etcd that has failed: those of its goroutines that the trap ended may hold
	// locks that others wait for.
	brokenCloseTimeout = 2 * time.Second
)

// Server is an embedded etcd that serves clients.
type Server struct {
	// set once by Start
	etcd     *embed.Etcd
	dir      *dataDir
	front    *front
	endpoint string
	trap     *trap
	streams  *streams
	watched  chan struct{} // closed by watch on exit

	close    sync.Once
	closeErr error // set in close
}

// Start returns when etcd serves clients, or why it does not: an address in use, a directory that cannot be written or
// that another process uses, data that cannot be read, or ctx ended; it takes at most 30 s. The caller closes the server.
//
// After an error from data on disk that it cannot read, etcd leaves goroutines and open files behind; the caller should
// then end the process.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, errors.Join(strict.Within("etcd ", err)...)
	}
	cfg = cfg.withDefaults()
	secure, err := cfg.tlsConfig()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("gave up after %s", readyTimeout))
	defer cancel()
	dir, err := lockDataDir(ctx, cfg.Dir)
	if err != nil {
		return nil, err
	}
	front, err := listen(cfg, secure)
	if err != nil {
		dir.unlock()
		return nil, explain(err, cfg)
	}
	s := &Server{dir: dir, front: front, trap: newTrap(cfg.Log), streams: newStreams(), watched: make(chan struct{})}
	if err := s.start(ctx, cfg); err != nil {
		front.stop()
		dir.unlock()
		return nil, explain(err, cfg)
	}
	return s, nil
}

// Endpoint is the host:port under which clients on this machine reach etcd.
func (s *Server) Endpoint() string { return s.endpoint }

// Dial connects to etcd within the process, whatever the address: without TLS, and beside the bound of connections.
func (s *Server) Dial(ctx context.Context) (net.Conn, error) { return s.front.dial(ctx) }

// Addr is where etcd listens for clients.
func (s *Server) Addr() net.Addr { return s.front.listener.Addr() }

// Failed receives at most one error, when etcd ends before Close is called: a full disk, say.
func (s *Server) Failed() <-chan error { return s.trap.failed }

// Close ends the streams of clients, stops etcd and waits until it has, or with an error for a bounded time: an etcd that
// has failed may not be able to stop. It may be called more than once.
func (s *Server) Close() error {
	s.close.Do(func() {
		wait := closeTimeout
		if s.trap.caught.Load() {
			wait = brokenCloseTimeout
		}
		s.trap.disarm()
		s.streams.end()
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			s.front.stop()
			if s.endpoint == "" {
				s.etcd.Server.Stop() // Etcd.Close waits for a server that is not ready yet
			}
			s.etcd.Close()
			<-s.watched
		}()
		timeout := time.NewTimer(wait)
		defer timeout.Stop()
		select {
		case <-closed:
		case <-timeout.C:
			s.closeErr = fmt.Errorf("etcd with its data in %s: not stopped within %s", s.dir.path, wait)
		}
		s.dir.unlock()
	})
	return s.closeErr
}

func (s *Server) start(ctx context.Context, cfg Config) error {
	if err := s.launch(ctx, cfg); err != nil {
		return err
	}
	go s.watch()
	select {
	case <-s.etcd.Server.ReadyNotify():
		s.endpoint = localEndpoint(s.front.listener.Addr())
		if err := restrict(ctx, s.etcd.Server, cfg); err != nil {
			_ = s.Close()
			return err
		}
		s.front.serve(s.etcd.Server, s.streams, s.trap.fail)
		return nil
	case err := <-s.trap.failed:
		_ = s.Close()
		return err
	case <-ctx.Done():
		_ = s.Close()
		return notReady(ctx)
	}
}

// launch sets s.etcd. Nothing can interrupt StartEtcd, and it does not return once the trap has caught it; then it is
// left behind.
func (s *Server) launch(ctx context.Context, cfg Config) error {
	if ctx.Err() != nil {
		return notReady(ctx)
	}
	launched := make(chan error, 1)
	go func() {
		defer s.trap.catchPanic()
		var err error
		s.etcd, err = embed.StartEtcd(s.embedConfig(cfg))
		launched <- err
	}()
	select {
	case err := <-launched:
		return err
	case err := <-s.trap.failed:
		return err
	case <-ctx.Done():
	}
	late := time.NewTimer(closeTimeout)
	defer late.Stop()
	select {
	case err := <-launched:
		return err // nil: start sees that ctx has ended
	case err := <-s.trap.failed:
		return err
	case <-late.C:
		return notReady(ctx)
	}
}

func notReady(ctx context.Context) error { return fmt.Errorf("not ready: %w", context.Cause(ctx)) }

// watch reports an end of etcd that Close did not ask for.
func (s *Server) watch() {
	defer close(s.watched)
	stopped := s.etcd.Server.StopNotify()
	for {
		select {
		case err, ok := <-s.etcd.Err():
			if !ok {
				return // etcd is closed
			}
			if err != nil {
				s.trap.fail(err)
			}
		case <-stopped:
			s.trap.fail(errors.New("stopped by itself"))
			stopped = nil
		}
	}
}

func (s *Server) embedConfig(cfg Config) *embed.Config {
	peer, _ := url.Parse(peerURL)
	client := url.URL{Scheme: "http", Host: localEndpoint(s.front.listener.Addr())}
	if cfg.CertFile != "" {
		client.Scheme = "https"
	}
	c := embed.NewConfig()
	c.Name = "framegate"
	c.Dir = cfg.Dir
	c.ListenPeerUrls = nil
	c.AdvertisePeerUrls = []url.URL{*peer}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	// The token of the first start makes the cluster's ID, so clients can tell a new store from the one before.
	c.InitialClusterToken = rand.Text()
	c.ListenClientUrls = nil // clients are served by front
	c.AdvertiseClientUrls = []url.URL{client}
	c.TickMs = uint(tick / time.Millisecond)
	c.ElectionMs = uint(electionTimeout / time.Millisecond)
	c.AutoCompactionMode = embed.CompactorModeRevision
	c.AutoCompactionRetention = strconv.Itoa(keptRevisions)
	c.LogLevel = "error"
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(s.trap.logger)
	return c
}

// localEndpoint is the address under which this machine reaches a listener.
func localEndpoint(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return addr.String()
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
}

// explain says what to do about an error of etcd's start.
func explain(err error, cfg Config) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("etcd listen address: %q is in use; to use the etcd that runs there give --etcd %s, or give the embedded one another address: %w",
			cfg.Address, cfg.Address, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EACCES) && isListenError(err):
		return fmt.Errorf("etcd listen address: %q, want an address of this machine that framegate may listen on: %w", cfg.Address, err)
	}
	return fmt.Errorf("etcd with its data in %s: %w", cfg.Dir, err)
}

func isListenError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "listen"
}
