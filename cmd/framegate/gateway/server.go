package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/server"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/transserver"
	healthsvc "github.com/framegate/framegate/kitex_gen/grpc/health/v1/health"
)

// kitexServer is the Kitex server of one listener.
type kitexServer struct {
	name string
	addr net.Addr
	svr  server.Server
	exit chan error    // Run's exit signal
	done chan struct{} // closed when Run has returned
	err  error         // of Run; set before done is closed
}

// stopGrace is how long Kitex waits for handlers beyond the drain timeout, at which the proxy has ended their calls.
const stopGrace = 5 * time.Second

// startLimit bounds how long a listener may take until it answers.
const startLimit = 10 * time.Second

// startServer listens, and returns when the server answers. It serves until stop.
func startServer(ctx context.Context, l conf.Listener, proxy *handler.Proxy, h *health, drainTimeout time.Duration) (*kitexServer, error) {
	ln, err := net.Listen("tcp", l.Address)
	if err != nil {
		return nil, listenError("listener "+l.Name, l.Address, err)
	}
	s := &kitexServer{name: l.Name, addr: ln.Addr(), exit: make(chan error, 1), done: make(chan struct{})}
	s.svr = healthsvc.NewServer(h, append(transserver.Options(),
		server.WithListener(ln),
		server.WithServerBasicInfo(&rpcinfo.EndpointBasicInfo{ServiceName: "framegate"}),
		server.WithGRPCUnknownServiceHandler(proxy.Handler(l.Name)),
		server.WithStreamOptions(server.WithStreamMiddleware(proxy.OwnService(l.Name, "grpc.health.v1"))),
		server.WithMiddleware(plainAnswers),
		server.WithGRPCMaxConcurrentStreams(l.MaxConcurrentStreams),
		server.WithGRPCMaxHeaderListSize(l.MaxHeaderBytes),
		server.WithGRPCInitialWindowSize(l.StreamWindow),
		server.WithGRPCInitialConnWindowSize(l.ConnectionWindow),
		server.WithGRPCKeepaliveParams(grpc.ServerKeepalive{Time: l.Keepalive.Time, Timeout: l.Keepalive.Timeout}),
		server.WithGRPCKeepaliveEnforcementPolicy(grpc.EnforcementPolicy{MinTime: l.Keepalive.MinPingInterval, PermitWithoutStream: true}),
		server.WithExitWaitTime(drainTimeout+stopGrace),
		server.WithExitSignal(func() <-chan error { return s.exit }),
	)...)
	go func() {
		defer close(s.done)
		s.err = s.svr.Run()
	}()
	if err := s.awaitSettings(ctx); err != nil {
		s.stop()
		return nil, fmt.Errorf("listener %s: address %s: %w", l.Name, l.Address, err)
	}
	return s, nil
}

// awaitSettings makes a connection to the server and returns when its SETTINGS have come. The socket takes connections
// as soon as it listens, but Kitex must not be stopped before it serves: it would race with its own start.
func (s *kitexServer) awaitSettings(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", s.addr.String())
	if err != nil {
		return err
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Now()) })()
	fr := http2.NewFramer(nc, nc)
	if _, err := io.WriteString(nc, http2.ClientPreface); err != nil {
		return err
	}
	if err := fr.WriteSettings(); err != nil {
		return err
	}
	_, err = fr.ReadFrame()
	return err
}

// listenError says what to do about an address that cannot be listened on.
func listenError(what, addr string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s: address %s is in use: stop what listens there or choose another address", what, addr)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: address %s: no permission for this port: choose one from 1024 up", what, addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s: address %s is not an address of this machine", what, addr)
	}
	return fmt.Errorf("%s: address %s: %w", what, addr, err)
}

// stop tells clients to go away and returns when every call has ended. It may be called more than once.
func (s *kitexServer) stop() {
	select {
	case s.exit <- nil:
	default:
	}
	<-s.done
}
