package health

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
)

const (
	serving    = grpc_health_v1.HealthCheckResponse_SERVING
	notServing = grpc_health_v1.HealthCheckResponse_NOT_SERVING
)

// peer is a grpc-go server with grpc.health.v1, and maybe what stands in for a part of it.
type peer struct {
	address string
	health  *grpchealth.Server
	server  *grpc.Server
	served  chan struct{} // closed when the server has ended

	connections atomic.Int64 // so far
	checks      atomic.Int64 // so far
	metadata    atomic.Pointer[metadata.MD]
}

// countingListener counts what it accepts.
type countingListener struct {
	net.Listener
	accepted *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return nc, err
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	require.NoError(t, err)
	return ln
}

// startPeer serves on ln with the health service that is given, or grpc-go's if it is nil.
func startPeer(t *testing.T, ln net.Listener, custom grpc_health_v1.HealthServer) *peer {
	p := &peer{address: ln.Addr().String(), health: grpchealth.NewServer(), served: make(chan struct{})}
	if ln.Addr().Network() == "unix" {
		p.address = "unix:" + p.address
	}
	p.server = grpc.NewServer(grpc.UnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			p.metadata.Store(&md)
			p.checks.Add(1)
			return handler(ctx, req)
		}))
	if custom == nil {
		custom = p.health
	}
	grpc_health_v1.RegisterHealthServer(p.server, custom)
	go func() {
		defer close(p.served)
		_ = p.server.Serve(countingListener{ln, &p.connections})
	}()
	t.Cleanup(p.stop)
	return p
}

// stop ends the server and its connections.
func (p *peer) stop() {
	p.server.Stop()
	<-p.served
}

// valve passes the bytes of connections on to an address. A connection that is there when it is shut is never heard of
// again, as if the endpoint's process had been stopped: it stays open, and nothing goes through it. So it is with those
// that are made while it is shut.
type valve struct {
	ln net.Listener
	to string
	wg sync.WaitGroup

	mu    sync.Mutex // guards what follows
	shut  bool
	conns []net.Conn
	flow  *atomic.Bool // of the connections that are made now
}

func startValve(t *testing.T, to string) *valve {
	v := &valve{ln: listen(t, "127.0.0.1:0"), to: to, flow: &atomic.Bool{}}
	v.flow.Store(true)
	v.wg.Go(v.accept)
	t.Cleanup(v.close)
	return v
}

func (v *valve) accept() {
	for {
		nc, err := v.ln.Accept()
		if err != nil {
			return
		}
		v.mu.Lock()
		v.conns = append(v.conns, nc)
		if v.shut {
			v.mu.Unlock()
			continue
		}
		up, err := net.Dial("tcp", v.to)
		if err != nil {
			v.mu.Unlock()
			_ = nc.Close()
			continue
		}
		v.conns = append(v.conns, up)
		flow := v.flow
		v.mu.Unlock()
		v.wg.Go(func() { pass(up, nc, flow) })
		v.wg.Go(func() { pass(nc, up, flow) })
	}
}

// pass copies until either ends; what comes when flow is false is lost.
func pass(to io.WriteCloser, from io.Reader, flow *atomic.Bool) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		if flow.Load() {
			if err == nil {
				_, err = to.Write(buf[:n])
			}
			if err != nil {
				_ = to.Close()
			}
		}
		if err != nil {
			return
		}
	}
}

func (v *valve) setShut() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shut = true
	v.flow.Store(false)
}

// setOpen lets new connections through. The old ones stay dead.
func (v *valve) setOpen() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shut = false
	v.flow = &atomic.Bool{}
	v.flow.Store(true)
}

func (v *valve) close() {
	_ = v.ln.Close()
	v.mu.Lock()
	for _, nc := range v.conns {
		_ = nc.Close()
	}
	v.mu.Unlock()
	v.wg.Wait()
}

// startRaw serves each connection with serve, which need not close it.
func startRaw(t *testing.T, serve func(net.Conn)) string {
	ln := listen(t, "127.0.0.1:0")
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, nc)
			mu.Unlock()
			wg.Go(func() { serve(nc) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, nc := range conns {
			_ = nc.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return ln.Addr().String()
}
