package transserver

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// crasher is a connection that makes the goroutine of the transport panic that reads or writes it.
type crasher struct {
	net.Conn
	onRead, onWrite *atomic.Bool
}

func (c *crasher) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.onRead.Load() {
		panic("the reader has a fault")
	}
	return n, err
}

func (c *crasher) Write(p []byte) (int, error) {
	if c.onWrite.Load() {
		panic("the writer has a fault")
	}
	return c.Conn.Write(p)
}

// crashListener accepts crashers.
type crashListener struct {
	net.Listener
	onRead, onWrite atomic.Bool
}

func (l *crashListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &crasher{nc, &l.onRead, &l.onWrite}, nil
}

// A fault of Kitex's that ends a transport's reader or writer left a connection that looked well, on which nothing was ever
// sent, and a server that could not be stopped.
func TestConn_CrashedTransportEndsTheConnection(t *testing.T) {
	for name, crash := range map[string]func(l *crashListener, r *running){
		"reader": func(l *crashListener, _ *running) { l.onRead.Store(true) },
		"writer": func(l *crashListener, r *running) { l.onWrite.Store(true); close(r.health.release) },
	} {
		t.Run(name, func(t *testing.T) {
			defer leavesNoGoroutine(t)()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			l := &crashListener{Listener: ln}
			r := startOn(t, l, Config{})
			cc, err := r.dial()
			require.NoError(t, err)
			defer cc.Close()
			ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
			defer cancel()
			client := grpc_health_v1.NewHealthClient(cc)
			w, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
			require.NoError(t, err)
			<-r.health.entered
			start := time.Now()
			crash(l, r)
			if name == "reader" {
				_ = w.CloseSend()                                                              // something to read
				go func() { _, _ = client.Check(ctx, &grpc_health_v1.HealthCheckRequest{}) }() // in any case
			}
			_, err = w.Recv()
			require.NotContains(t, []codes.Code{codes.OK, codes.DeadlineExceeded}, status.Code(err), "the connection has ended: %v", err)
			require.Less(t, time.Since(start), waitLimit/2)
			l.onRead.Store(false)
			l.onWrite.Store(false)
			if name == "reader" {
				close(r.health.release)
			}
			require.NoError(t, r.check())
			require.NoError(t, cc.Close())
			r.stop(t)
		})
	}
}
