// Package admin is the admin HTTP server. It answers probes and scrapes, shows the configuration in force and why it
// is, and changes routes and registered instances.
//
// Enter at Listen and Start; then api.go (every path, its handlers, and what is common to all), guard.go (who may ask), conns.go
// and work.go (how many at once), document.go (the bodies), routes.go, schemas.go, services.go, endpoints.go, explain.go,
// tap.go, drain.go and status.go (the answers: a type with its handlers for each resource), errors.go (the errors).
// openapi.json describes the API for clients, with every key of a route; a test compares it with the code. control.go is what
// the caller of Start provides, which is package gateway.
//
// Metrics is a handler.Observer that counts calls: metrics.go and series.go (a call's series), retryseries.go, structseries.go
// and endpointmetrics.go.
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
	Token          string       // wanted by every path except /healthz and /readyz, and for the reason in /readyz; empty for none; see SetToken
	MaxConnections int          // see conns; 0 means DefaultMaxConnections
	Ready          func() error // returns why calls should not be sent here, or nil; a nil func means always ready
	Metrics        http.Handler // answers GET /metrics; nil for none
	Pprof          bool         // serve /debug/pprof/
	Control        Control
	Log            *slog.Logger // nil for none
}

// The bounds of a request. writeTimeout is long enough for the slowest answer, the list of all routes; a profile extends it
// by its duration.
const (
	readHeaderTimeout = 5 * time.Second
	readBodyTimeout   = 10 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 30 * time.Second
	refusedTimeout    = time.Second // for the rest of a request that the guard has refused
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

	mu     sync.Mutex // guards closed, and keeps active.Add from running beside Wait
	closed bool
	active sync.WaitGroup // requests under way
}

// Listen listens on address, which with token must pass ValidateAddress. Connections wait in the kernel until Start. The
// error names the configuration key of a wrong value.
func Listen(address, token string) (net.Listener, error) {
	if err := ValidateAddress(address, token); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	if err := checkReach(ln.Addr(), token); err != nil { // the name may resolve to another address now
		_ = ln.Close()
		return nil, err
	}
	return ln, nil
}

// Start serves on ln, which Listen returned for cfg.Token, until Close. The server closes ln.
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

// serve takes requests until Close. If the HTTP server fails by itself, serve only logs the error, because gRPC calls go on
// without it.
func (s *Server) serve(ln net.Listener) {
	if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		s.log.Error("the admin server has ended: restart to have it back", "address", ln.Addr().String(), "error", err)
	}
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.addr }

// SetToken replaces Config.Token for requests from now on. The new token must pass CheckToken. It may be called at any time.
func (s *Server) SetToken(token string) { s.guard.setToken(token) }

// CheckToken returns an error if token is empty and other machines can reach the server's address.
func (s *Server) CheckToken(token string) error { return checkReach(s.addr, token) }

// checkReach returns an error if token is empty and other machines can reach addr.
func checkReach(addr net.Addr, token string) error {
	if isLoopback(addr) || token != "" {
		return nil
	}
	return fmt.Errorf("admin.address: %s, want a loopback address or admin.token set", addr)
}

// Close stops the server at once: it cancels the requests under way and waits for them. It may be called more than once.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	_ = s.http.Close()
	<-s.done
	s.active.Wait()
}

// begin counts a request and returns true, or returns false after Close. After true the caller calls active.Done once.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.active.Add(1)
	return true
}
