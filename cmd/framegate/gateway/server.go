package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/server"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler/acceptor"
	"github.com/framegate/framegate/handler/kitexstream"
	"github.com/framegate/framegate/handler/transserver"
	healthsvc "github.com/framegate/framegate/kitex_gen/grpc/health/v1/health"
)

// kitexServer is the Kitex server of one listener.
type kitexServer struct {
	name  string
	addr  net.Addr
	conns *acceptor.Acceptor
	svr   server.Server
	exit  chan error    // Run's exit signal
	done  chan struct{} // closed when Run has returned
	err   error         // of Run; set before done is closed
}

// stopGrace is how long Kitex waits for handlers after the drain timeout, when the proxy has ended their calls.
const stopGrace = 5 * time.Second

// builtinPackage is the protobuf package of framegate's builtin services.
const builtinPackage = "grpc.health.v1"

// startLimit bounds how long a listener may take until it accepts connections.
const startLimit = 10 * time.Second

// startServer starts the server of a listener and returns when it accepts connections. The server runs until stop.
func (ls *listeners) startServer(ctx context.Context, l conf.Listener) (*kitexServer, error) {
	ln, err := acceptor.Listen(ctx, l.Address, reuseOf(l))
	if err != nil {
		return nil, listenError("listener "+l.Name, l.Address, err)
	}
	ls.resolver.Own("listener "+l.Name, ln.Addr()) // before it takes calls
	builtin := builtinPackage
	if l.Health == conf.HealthRouted {
		builtin = ""
	}
	s := &kitexServer{name: l.Name, addr: ln.Addr(), exit: make(chan error, 1), done: make(chan struct{})}
	s.conns = acceptor.New(acceptor.Config{
		MaxConnections: l.MaxConnections, ReusePort: l.ReusePort, ExitWait: ls.exitWait, Descriptors: ls.descriptors, Log: ls.log.With("listener", l.Name),
	}, ls.dataPlane(l, builtin))
	if room := ls.descriptors.MaxConnections(); l.MaxConnections > room {
		ls.log.Warn("the limit of open files leaves room for fewer connections than max_connections", "listener", l.Name, "max_connections", l.MaxConnections, "room", room)
	}
	s.svr = healthsvc.NewServer(&listenerHealth{ls.health, l.Name}, append(transserver.Options(s.conns),
		server.WithListener(ln),
		server.WithServerBasicInfo(&rpcinfo.EndpointBasicInfo{ServiceName: "framegate"}),
		server.WithGRPCUnknownServiceHandler(kitexstream.Handler(ls.proxy.Serve(l.Name))),
		server.WithStreamOptions(server.WithStreamMiddleware(kitexstream.BuiltinService(ls.proxy.Serve(l.Name), builtin))),
		server.WithMiddleware(plainAnswers),
		server.WithGRPCMaxConcurrentStreams(l.MaxConcurrentStreams),
		server.WithGRPCMaxHeaderListSize(l.MaxHeaderBytes),
		server.WithGRPCInitialWindowSize(l.StreamWindow),
		server.WithGRPCInitialConnWindowSize(l.ConnectionWindow),
		server.WithGRPCKeepaliveParams(grpc.ServerKeepalive{Time: l.Keepalive.Time, Timeout: l.Keepalive.Timeout}),
		server.WithGRPCKeepaliveEnforcementPolicy(grpc.EnforcementPolicy{MinTime: l.Keepalive.MinPingInterval, PermitWithoutStream: true}),
		server.WithExitSignal(func() <-chan error { return s.exit }),
	)...)
	go func() {
		defer close(s.done)
		s.err = s.svr.Run()
	}()
	wait := time.NewTimer(startLimit)
	defer wait.Stop()
	select {
	case <-s.conns.Serving():
		return s, nil
	case <-s.done:
		return nil, fmt.Errorf("listener %s: address %s: %w", l.Name, l.Address, s.err)
	case <-ctx.Done():
		err = ctx.Err()
	case <-wait.C:
		err = fmt.Errorf("not serving within %s", startLimit)
	}
	s.stop()
	return nil, fmt.Errorf("listener %s: address %s: %w", l.Name, l.Address, err)
}

// exitWait is how long a listener that stops waits for its calls.
func (ls *listeners) exitWait() time.Duration { return ls.conf().Drain.Timeout + stopGrace }

func reuseOf(l conf.Listener) acceptor.Reuse {
	if l.ReusePort {
		return acceptor.ReusePort
	}
	return acceptor.OwnPort
}

// listenError wraps the error of listening on an address with what to do about it.
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

// stop sends clients GOAWAY and returns when every call has ended. It may be called more than once.
func (s *kitexServer) stop() {
	select {
	case s.exit <- nil:
	default:
	}
	<-s.done
}
