package structmode_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/server"

	"github.com/framegate/framegate/cmd/framegate/gateway"
	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/kitex_gen/echo"
	echosvc "github.com/framegate/framegate/kitex_gen/echo/echo"
)

// A filter is written against the types that Kitex generated, and given to the gateway of a binary of one's own.
func ExampleFilter() {
	filter, err := structmode.NewFilter("/echo.Echo/Say", structmode.Filter[echo.Request, echo.Reply]{
		Request: func(_ context.Context, m *echo.Request) (*echo.Request, error) {
			if m.Message == "" {
				return nil, status.Err(codes.InvalidArgument, "say something")
			}
			m.Message = strings.ToLower(m.Message)
			return m, nil
		},
		Response: func(_ context.Context, m *echo.Reply) (*echo.Reply, error) {
			m.Message += "!"
			return m, nil
		},
	})
	if err != nil {
		panic(err)
	}
	endpoint, stopService := serveEcho()
	defer stopService()
	addr, stopGateway := serveGateway(`routes:
  - name: echo
    mode: struct
    match: [{method: /echo.Echo/*}]
    backends: [{endpoints: [{address: "`+endpoint+`"}]}]
`, gateway.WithFilters(filter))
	defer stopGateway()

	c, err := echosvc.NewClient("echo", client.WithHostPorts(addr))
	if err != nil {
		panic(err)
	}
	for _, message := range []string{"HELLO", ""} {
		reply, err := c.Say(context.Background(), &echo.Request{Message: message})
		if st, ok := status.FromError(err); err != nil && ok {
			fmt.Println(st.Code(), st.Message())
			continue
		} else if err != nil {
			panic(err)
		}
		fmt.Println(reply.Message)
	}
	// Output:
	// you said hello!
	// InvalidArgument framegate: say something
}

// serveGateway runs a gateway with those routes. It takes calls at addr until stop.
func serveGateway(routes string, options ...gateway.Option) (addr string, stop func()) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	cfg := conf.Default()
	cfg.Listeners[0].Address, cfg.Routes.File = "127.0.0.1:0", filepath.Join(dir, "routes.yaml")
	cfg.Admin.Address, cfg.Etcd.Endpoints, cfg.Etcd.Snapshot = conf.None, []string{conf.None}, ""
	if err := os.WriteFile(cfg.Routes.File, []byte(routes), 0o600); err != nil {
		panic(err)
	}
	g, err := gateway.Start(context.Background(), cfg, slog.New(slog.DiscardHandler), options...)
	if err != nil {
		panic(err)
	}
	return g.Addr(cfg.Listeners[0].Name), func() {
		g.Shutdown(context.Background())
		_ = os.RemoveAll(dir)
	}
}

// echoServer is the service behind the gateway.
type echoServer struct{ echo.Echo }

func (*echoServer) Say(_ context.Context, req *echo.Request) (*echo.Reply, error) {
	return &echo.Reply{Message: "you said " + req.Message}, nil
}

// serveEcho runs an echoServer at addr until stop.
func serveEcho() (addr string, stop func()) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	exit, done := make(chan error, 1), make(chan struct{})
	svr := echosvc.NewServer(&echoServer{}, server.WithListener(ln), server.WithExitWaitTime(time.Second),
		server.WithExitSignal(func() <-chan error { return exit }))
	go func() {
		defer close(done)
		_ = svr.Run()
	}()
	return ln.Addr().String(), func() { exit <- nil; <-done }
}
