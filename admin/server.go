// Package admin is the admin HTTP server: whether the process lives and should get calls, what is in force and why, and
// the changes of routes and registered instances.
//
// Enter at Listen and Start; then api.go (every path, and what is common to all), guard.go (who may ask), conns.go and work.go
// (how many at once), routes.go, schemas.go, services.go, explain.go, tap.go, drain.go and status.go (the answers),
// errors.go (what is said when something is wrong). openapi.json describes all of it for clients; a test holds the two equal.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Config says what the admin server shows and to whom.
type Config struct {
	Token          string       // that every path except /healthz and /readyz wants, and the reason in /readyz; empty for none; see SetToken
	MaxConnections int          // see conns; 0 means DefaultMaxConnections
	Ready          func() error // why calls should not be sent here, or nil; a nil func is always ready
	Metrics        http.Handler // answers GET /metrics; nil for none
	Pprof          bool         // serve /debug/pprof/
	Control        Control
	Log            *slog.Logger // nil for none
}

// What bounds a request. A write must have the time for the slowest answer, the list of all routes; profiles extend it
// by their own duration.
const (
	readHeaderTimeout = 5 * time.Second
	readBodyTimeout   = 10 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 30 * time.Second
	refusedTimeout    = time.Second // for what is left of a request that is not let in
	maxHeaderBytes    = 64 << 10
	maxBodyBytes      = 1 << 20
	etcdTimeout       = 5 * time.Second
)

// Server is a running admin server.
type Server struct {
	// set once
	cfg    Config
	log    *slog.Logger
	guard  *guard
	work   *work
	addr   net.Addr
	http   *http.Server
	cancel context.CancelFunc // ends the requests under way
	done   chan struct{}      // closed when the server's goroutine has ended

	mu     sync.Mutex // guards closed, and active.Add against Wait
	closed bool
	active sync.WaitGroup // requests under way
}

// Listen listens on host:port (see ValidateAddress) for a server with that token; requests wait until Start. The error
// names the key of a value that cannot be used.
func Listen(address, token string) (net.Listener, error) {
	if err := ValidateAddress(address, token); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	if err := checkReach(ln.Addr(), token); err != nil { // the name meant something else when it was validated
		_ = ln.Close()
		return nil, err
	}
	return ln, nil
}

// Start serves on what Listen has returned for cfg.Token, which it takes over, until Close.
func Start(ln net.Listener, cfg Config) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{cfg: cfg, log: cfg.Log, guard: newGuard(cfg.Token), work: newWork(), addr: ln.Addr(), cancel: cancel, done: make(chan struct{})}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	bounded := newConns(ln, cfg.MaxConnections)
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: readHeaderTimeout, // no ReadTimeout: it would end the context of a long profile
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withConn,
		ConnState:         bounded.changed,
	}
	go func() {
		defer close(s.done)
		s.serve(bounded)
	}()
	return s
}

// serve takes requests until Close. A server that ends by itself leaves the calls alone, so it is not worth more than an
// error in the log.
func (s *Server) serve(ln net.Listener) {
	if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		s.log.Error("the admin server has ended: restart to have it back", "address", ln.Addr().String(), "error", err)
	}
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.addr }

// SetToken changes Config.Token: requests from now on want the new one, which CheckToken takes. It may be called at any time.
func (s *Server) SetToken(token string) { s.guard.setToken(token) }

// CheckToken refuses no token at an address that others can reach.
func (s *Server) CheckToken(token string) error { return checkReach(s.addr, token) }

// checkReach refuses an address that others can reach without a token.
func checkReach(addr net.Addr, token string) error {
	if isLoopback(addr) || token != "" {
		return nil
	}
	return fmt.Errorf("admin.address: %s, want a loopback address or admin.token set", addr)
}

// Close stops the server at once: requests under way are ended, and waited for. It may be called more than once.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	_ = s.http.Close()
	<-s.done
	s.active.Wait()
}

// begin counts a request and reports true, or false after Close. Each true wants one active.Done.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.active.Add(1)
	return true
}
