package etcdserver

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"
)

const (
	handshakeTimeout = 10 * time.Second // of a connection, until it speaks HTTP/2
	idleTimeout      = 5 * time.Minute  // of a connection without a request or a watch
	stopTimeout      = time.Second      // for requests under way when the server closes
	memoryBuffer     = 256 << 10        // of a connection within the process, in each direction
)

// front serves the clients of etcd, by gRPC only. It replaces etcd's own listeners, which also serve HTTP: that answers
// requests of any web page in a browser on this machine, and tells any client about the process (/debug/vars, /metrics).
type front struct {
	secure   *tls.Config // of public; nil for clear text
	listener *boundedListener
	memory   *bufconn.Listener
	public   *grpc.Server // nil until serve
	private  *grpc.Server // for clients within the process, without TLS; nil until serve
	serving  sync.WaitGroup
}

// listen returns a front that listens at the configured address. It serves no client before serve.
func listen(cfg Config, secure *tls.Config) (*front, error) {
	ln, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return nil, err
	}
	tcp, ok := ln.Addr().(*net.TCPAddr)
	if !cfg.mayListen(ok && tcp.IP.IsLoopback()) { // Validate cannot tell if localhost is no loopback address here
		_ = ln.Close()
		return nil, fmt.Errorf("etcd %w", cfg.exposed(ln.Addr().String()))
	}
	return &front{secure: secure, listener: newBoundedListener(ln, cfg.MaxConnections), memory: bufconn.Listen(memoryBuffer)}, nil
}

// serve begins to serve clients of s, and reports to failed if it ends before stop.
func (f *front) serve(s *etcdserver.EtcdServer, ends *streams, failed func(error)) {
	f.public, f.private = newGRPCServer(s, f.secure, ends), newGRPCServer(s, nil, ends)
	f.serving.Go(func() {
		if err := f.public.Serve(f.listener); err != nil {
			failed(err)
		}
	})
	f.serving.Go(func() {
		if err := f.private.Serve(f.memory); err != nil {
			failed(err)
		}
	})
}

// newGRPCServer returns a gRPC server with all services of etcd's own.
func newGRPCServer(s *etcdserver.EtcdServer, secure *tls.Config, ends *streams) *grpc.Server {
	g := v3rpc.Server(s, secure, nil,
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: embed.DefaultGRPCKeepAliveMinTime}),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTimeout, Time: embed.DefaultGRPCKeepAliveInterval, Timeout: embed.DefaultGRPCKeepAliveTimeout}),
		grpc.ChainStreamInterceptor(ends.intercept),
	)
	within := v3client.New(s)
	v3electionpb.RegisterElectionServer(g, v3election.NewElectionServer(within))
	v3lockpb.RegisterLockServer(g, v3lock.NewLockServer(within))
	return g
}

// dial connects to etcd within the process.
func (f *front) dial(ctx context.Context) (net.Conn, error) {
	nc, err := f.memory.DialContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("the embedded etcd has ended: %w", err)
	}
	return nc, nil
}

// stop ends serving. It waits for requests under way, for up to stopTimeout. It may be called without serve.
func (f *front) stop() {
	var stopping sync.WaitGroup
	for _, g := range []*grpc.Server{f.public, f.private} {
		if g == nil {
			continue
		}
		stopping.Go(func() {
			late := time.AfterFunc(stopTimeout, g.Stop)
			g.GracefulStop()
			late.Stop()
		})
	}
	stopping.Wait()
	_ = f.listener.Close()
	_ = f.memory.Close()
	f.serving.Wait()
}

// boundedListener bounds the number of open connections: a further one is reset.
type boundedListener struct {
	net.Listener
	slots chan struct{} // has one for each open connection
}

func newBoundedListener(ln net.Listener, maxConns int) *boundedListener {
	return &boundedListener{Listener: ln, slots: make(chan struct{}, maxConns)}
}

// Accept implements net.Listener.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			return &boundedConn{Conn: nc, giveBack: sync.OnceFunc(func() { <-l.slots })}, nil
		default:
		}
		if tcp, ok := nc.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = nc.Close()
	}
}

// boundedConn is a connection that gives its slot back when it is closed.
type boundedConn struct {
	net.Conn
	giveBack func()
}

// Close implements net.Conn.
func (c *boundedConn) Close() error {
	defer c.giveBack()
	return c.Conn.Close()
}
