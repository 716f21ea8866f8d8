// Package acceptor accepts the connections of a listener for a Kitex server: it is a remote.TransServer whose connections
// are those of a data plane. It bounds their number, hands the port over to another process, and drains them.
//
// It replaces Kitex's own TransServer over netpoll, which closes its listener's descriptor twice when it stops, and so may
// close a connection that has got the same descriptor since (netpoll v0.7.2), and which accepts Thrift beside gRPC.
//
// Enter at Acceptor; then Server.BootstrapServer in server.go, drain.go (shutdown), reuseport.go (hands the port over to
// another process), descriptors.go (the limit of open files), counts.go and offences.go.
package acceptor

import (
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/cloudwego/kitex/server"
)

// Conn is one connection of a client, made by a DataPlane.
type Conn interface {
	// Serve serves the connection until it has ended, and closes it. It is called once, in a goroutine of its own.
	Serve()

	// Drain tells the client to open no more streams; those that it opens before it has read that are served (RFC 9113 §6.8).
	// It may be called at any time, and more than once.
	Drain()

	// Cut closes the connection at once. It may be called at any time, and more than once.
	Cut()

	// Calls returns how many calls are under way.
	Calls() int

	// RemoteAddr returns the client's address.
	RemoteAddr() net.Addr
}

// DataPlane makes connections of the sockets that were accepted.
type DataPlane interface {
	// Conn returns the connection for a socket that s has accepted. It must not block.
	Conn(nc net.Conn, s *Server) Conn

	// Offences returns for what clients are sent away, see Server.SentAway.
	Offences() []string
}

// Config configures an Acceptor.
type Config struct {
	MaxConnections int                  // further connections are closed at once; 0 means no bound; see SetMaxConnections
	ReusePort      bool                 // the listener was made by Listen with ReusePort: at Shutdown another process may take over
	ExitWait       func() time.Duration // how long Shutdown waits for calls; nil means the Kitex server's ExitWaitTime
	Descriptors    *Descriptors         // shared by the listeners of a process; nil means no bound
	Log            *slog.Logger         // nil for none
}

// Acceptor accepts the connections of one Kitex server. It is safe for concurrent use.
type Acceptor struct {
	cfg      Config
	plane    DataPlane
	maxConns atomic.Int64 // 0 means no bound
	counts   counts
	serving  chan struct{} // closed when the server accepts
	once     sync.Once     // closes serving
}

// New returns an Acceptor for one Kitex server; see Option.
func New(cfg Config, plane DataPlane) *Acceptor {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	a := &Acceptor{cfg: cfg, plane: plane, serving: make(chan struct{})}
	a.counts.away = NewOffences("client", plane.Offences(), cfg.Log)
	a.SetMaxConnections(cfg.MaxConnections)
	return a
}

// SetMaxConnections changes Config.MaxConnections. It may be called at any time: connections that are open stay.
func (a *Acceptor) SetMaxConnections(n int) { a.maxConns.Store(int64(n)) }

// Option returns the option with which a Kitex server gets its connections from the acceptor.
func (a *Acceptor) Option() server.Option { return server.WithTransServerFactory(a) }

// Serving returns a channel that is closed when the server accepts connections. A Kitex server must not be stopped before,
// because its Stop races with its start.
func (a *Acceptor) Serving() <-chan struct{} { return a.serving }

// NewTransServer implements remote.TransServerFactory.
func (a *Acceptor) NewTransServer(opt *remote.ServerOption, handler remote.ServerTransHandler) remote.TransServer {
	return &Server{Acceptor: a, opt: opt, handler: handler, conns: map[Conn]struct{}{}, retired: make(chan struct{}), over: make(chan struct{})}
}
