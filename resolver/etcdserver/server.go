// Package etcdserver runs etcd inside the process: one member that keeps its data on disk and serves clients on one
// address.
//
// Enter at Start; then config.go (the address, and who may use it), serve.go (the gRPC servers for clients), users.go (the
// user), datadir.go (the lock on the data directory) and trap.go (how a failure of etcd does not end the process).
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
	// peerURL is the member's address for peers in the member list. The member has no peers, and so no peer listener, so that
	// any number of embedded etcds run on one machine. The address only has to be well formed and the same at each start.
	peerURL = "http://127.0.0.1:0"

	// A member without peers elects itself when its election timeout has passed, so a short one makes the start short.
	tick            = 50 * time.Millisecond
	electionTimeout = 250 * time.Millisecond

	// keptRevisions is how many revisions of the whole store stay readable, for the history of routes; older ones are
	// compacted. Documents have about 1 KiB, so they take some 10 MiB of etcd's quota of 2 GiB.
	keptRevisions = 10_000

	readyTimeout = 30 * time.Second // of Start, which takes less than a second unless there is much to read from disk
	closeTimeout = 15 * time.Second // how long Close waits for etcd, which takes less than a second

	// brokenCloseTimeout is closeTimeout for an etcd that has failed. It is short, because goroutines that the trap has ended
	// may hold locks that etcd waits for.
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
	ended    chan struct{} // closed by monitor on exit

	close    sync.Once
	closeErr error // set in close
}

// Start starts etcd, and returns when it serves clients, after at most 30 s. The error says why it does not: an address in
// use, a directory that cannot be written or that another process uses, data that cannot be read, or the end of ctx. The
// caller closes the server.
//
// If etcd cannot read the data on disk, it leaves goroutines and open files behind, so that the caller should end the
// process.
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
	s := &Server{dir: dir, front: front, trap: newTrap(cfg.Log), streams: newStreams(), ended: make(chan struct{})}
	if err := s.start(ctx, cfg); err != nil {
		front.stop()
		dir.unlock()
		return nil, explain(err, cfg)
	}
	return s, nil
}

// Endpoint returns the host:port at which clients on this machine reach etcd.
func (s *Server) Endpoint() string { return s.endpoint }

// Dial connects to etcd within the process: without TLS, and without counting against MaxConnections.
func (s *Server) Dial(ctx context.Context) (net.Conn, error) { return s.front.dial(ctx) }

// Addr returns the address at which etcd listens for clients.
func (s *Server) Addr() net.Addr { return s.front.listener.Addr() }

// Failed returns a channel that gets at most one error, when etcd ends before Close is called, because of a full disk for
// instance.
func (s *Server) Failed() <-chan error { return s.trap.failed }

// Close ends the streams of clients, stops etcd and waits for it. It returns an error if that takes too long, because an etcd
// that has failed may not be able to stop. It may be called more than once.
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
			<-s.ended
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
	go s.monitor()
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

// launch starts etcd and sets s.etcd. It runs StartEtcd in a goroutine, because that cannot be canceled and does not return
// if the trap has caught a failure in it. The goroutine is then left behind.
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
		return err // if it is nil, start notices that ctx has ended
	case err := <-s.trap.failed:
		return err
	case <-late.C:
		return notReady(ctx)
	}
}

func notReady(ctx context.Context) error { return fmt.Errorf("not ready: %w", context.Cause(ctx)) }

// monitor reports to the trap if etcd ends by itself. It returns when etcd is closed.
func (s *Server) monitor() {
	defer close(s.ended)
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
	// etcd derives the cluster's ID from the token of the first start. A random one lets clients tell a new store from an old.
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

// localEndpoint returns the address at which this machine reaches a listener.
func localEndpoint(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return addr.String()
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
}

// explain returns an error of the start with what to do about it.
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
