package demo

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/cloudwego/kitex/pkg/kerrors"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/server"

	"github.com/framegate/framegate/cmd/framegate/demo/echoservice"
	"github.com/framegate/framegate/handler/acceptor"
	"github.com/framegate/framegate/handler/transserver"
	echosvc "github.com/framegate/framegate/kitex_gen/echo/echo"
	"github.com/framegate/framegate/kitex_gen/shop"
	shopsvc "github.com/framegate/framegate/kitex_gen/shop/shop"
)

// shopService knows the prices of a few items, in cents.
type shopService map[string]int64

var errUnknownItem = kerrors.NewGRPCBizStatusErrorWithExtra(404, "no such item", map[string]string{"try": "tea"})

// Price implements shop.Shop.
func (s shopService) Price(_ context.Context, req *shop.PriceRequest) (*shop.PriceReply, error) {
	cents, ok := s[req.Item]
	if !ok {
		return nil, errUnknownItem
	}
	return &shop.PriceReply{Item: req.Item, Cents: cents}, nil
}

// Watch implements shop.Shop. It sends the price and then a second one, a cent higher.
func (s shopService) Watch(req *shop.PriceRequest, stream shop.Shop_WatchServer) error {
	cents, ok := s[req.Item]
	if !ok {
		return errUnknownItem
	}
	for _, c := range []int64{cents, cents + 1} {
		if err := stream.Send(&shop.PriceReply{Item: req.Item, Cents: c}); err != nil {
			return err
		}
	}
	return nil
}

// service is a running demo service.
type service struct {
	addr string
	exit chan error    // the server's exit signal
	done chan struct{} // closed when the server has stopped
}

// startEcho starts an instance of echo.Echo on a free port of 127.0.0.1.
func startEcho(name string) (*service, error) {
	return startService(name, func(opts ...server.Option) server.Server { return echosvc.NewServer(echoservice.New(name), opts...) })
}

// startShop starts shop.Shop on a free port of 127.0.0.1.
func startShop() (*service, error) {
	prices := shopService{"tea": 350, "coffee": 420}
	return startService("shop", func(opts ...server.Option) server.Server { return shopsvc.NewServer(prices, opts...) })
}

func startService(name string, newServer func(...server.Option) server.Server) (*service, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", name, err)
	}
	s := &service{addr: ln.Addr().String(), exit: make(chan error, 1), done: make(chan struct{})}
	svr := newServer(append(transserver.Options(acceptor.New(acceptor.Config{}, transserver.New(transserver.Config{}))),
		server.WithListener(ln),
		server.WithServerBasicInfo(&rpcinfo.EndpointBasicInfo{ServiceName: name}),
		server.WithExitWaitTime(time.Second),
		server.WithExitSignal(func() <-chan error { return s.exit }),
	)...)
	go func() {
		defer close(s.done)
		_ = svr.Run() // ends with stop
	}()
	return s, nil
}

// stop ends the service and waits for it. It is called once.
func (s *service) stop() {
	s.exit <- nil
	<-s.done
}
