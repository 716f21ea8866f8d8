package testbed

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/transmeta"
	"github.com/cloudwego/kitex/server"

	"github.com/framegate/framegate/kitex_gen/echo"
	echosvc "github.com/framegate/framegate/kitex_gen/echo/echo"
	"github.com/framegate/framegate/test/kitexlistener"
)

// Echo is a Kitex echo service, which answers with the message that it gets. A function that is set replaces the method.
type Echo struct {
	OnSay     func(ctx context.Context, req *echo.Request) (*echo.Reply, error)
	OnCollect func(stream echo.Echo_CollectServer) error
	OnStream  func(req *echo.Request, stream echo.Echo_StreamServer) error
	OnChat    func(stream echo.Echo_ChatServer) error
}

var _ echo.Echo = (*Echo)(nil)

// Say answers with the request's message and payload.
func (e *Echo) Say(ctx context.Context, req *echo.Request) (*echo.Reply, error) {
	if e.OnSay != nil {
		return e.OnSay(ctx, req)
	}
	return &echo.Reply{Message: req.Message, Payload: req.Payload}, nil
}

// Collect answers with the messages joined, and their number.
func (e *Echo) Collect(stream echo.Echo_CollectServer) error {
	if e.OnCollect != nil {
		return e.OnCollect(stream)
	}
	reply := new(echo.Reply)
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(reply)
		}
		if err != nil {
			return err
		}
		reply.Message += req.Message
		reply.Index++
	}
}

// Stream answers req.Count times.
func (e *Echo) Stream(req *echo.Request, stream echo.Echo_StreamServer) error {
	if e.OnStream != nil {
		return e.OnStream(req, stream)
	}
	for i := range req.Count {
		if err := stream.Send(&echo.Reply{Message: req.Message, Payload: req.Payload, Index: i}); err != nil {
			return err
		}
	}
	return nil
}

// Chat answers each request as it comes.
func (e *Echo) Chat(stream echo.Echo_ChatServer) error {
	if e.OnChat != nil {
		return e.OnChat(stream)
	}
	for i := int32(0); ; i++ {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&echo.Reply{Message: req.Message, Payload: req.Payload, Index: i}); err != nil {
			return err
		}
	}
}

// NewEcho starts a Kitex server with e and returns its address.
func NewEcho(t testing.TB, e *Echo) string {
	t.Helper()
	addr, _ := StartEcho(t, e)
	return addr
}

// StartEcho is NewEcho with further options. stop stops the server as a signal does: it deregisters, and waits for its calls.
// t.Cleanup calls stop too.
func StartEcho(t testing.TB, e *Echo, options ...server.Option) (addr string, stop func()) {
	t.Helper()
	ln := kitexlistener.New(t)
	// The exit signal ends Run, and not Stop, which does nothing if Run has not started the server yet.
	exit := make(chan error, 1)
	svr := echosvc.NewServer(e, append([]server.Option{
		server.WithListener(ln),
		server.WithMetaHandler(transmeta.ServerHTTP2Handler),
		server.WithExitWaitTime(Patience),
		server.WithExitSignal(func() <-chan error { return exit }),
	}, options...)...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := svr.Run(); err != nil {
			t.Errorf("Kitex server: %v", err)
		}
	}()
	stop = sync.OnceFunc(func() {
		select {
		case <-ln.Served():
		case <-done:
		}
		exit <- nil
		<-done
	})
	t.Cleanup(stop)
	return ln.Addr().String(), stop
}

// DialEcho returns a Kitex client of addr that speaks gRPC.
func DialEcho(t testing.TB, addr string, options ...client.Option) echosvc.Client {
	t.Helper()
	options = append([]client.Option{
		client.WithHostPorts(addr),
		client.WithConnectTimeout(Patience), // Kitex's own is 50 ms
		client.WithMetaHandler(transmeta.ClientHTTP2Handler),
	}, options...)
	c, err := echosvc.NewClient("echo", options...)
	if err != nil {
		t.Fatalf("Kitex client of %s: %v", addr, err)
	}
	t.Cleanup(func() { runtime.KeepAlive(c) }) // Kitex closes a client that is garbage, even during its last call
	return c
}
