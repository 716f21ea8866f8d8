// Command kitex-echo is an echo.Echo on Kitex that registers itself in etcd through registry-etcd, as any Kitex service
// does. The README uses it.
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"log"
	"net"

	"github.com/cloudwego/kitex/pkg/registry"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/server"
	etcdregistry "github.com/kitex-contrib/registry-etcd"

	"github.com/framegate/framegate/kitex_gen/echo"
	echosvc "github.com/framegate/framegate/kitex_gen/echo/echo"
)

type service struct {
	echo.Echo // the other methods are not part of the tour
}

// Say implements echo.Echo.
func (*service) Say(_ context.Context, req *echo.Request) (*echo.Reply, error) {
	return &echo.Reply{Message: "kitex-echo heard " + req.Message}, nil
}

// Chat implements echo.Echo.
func (*service) Chat(stream echo.Echo_ChatServer) error {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&echo.Reply{Message: "kitex-echo heard " + req.Message}); err != nil {
			return err
		}
	}
}

func main() {
	etcd := flag.String("etcd", "127.0.0.1:2379", "etcd endpoint")
	name := flag.String("name", "echo", "name to register")
	address := flag.String("address", "127.0.0.1:9001", "address to listen on")
	flag.Parse()
	reg, err := etcdregistry.NewEtcdRegistry([]string{*etcd})
	if err != nil {
		log.Fatalln("kitex-echo:", err)
	}
	addr, err := net.ResolveTCPAddr("tcp", *address)
	if err != nil {
		log.Fatalln("kitex-echo:", err)
	}
	svr := echosvc.NewServer(&service{},
		server.WithServiceAddr(addr),
		server.WithRegistry(reg),
		server.WithRegistryInfo(&registry.Info{ServiceName: *name, Weight: 10}),
		server.WithServerBasicInfo(&rpcinfo.EndpointBasicInfo{ServiceName: *name}),
	)
	if err := svr.Run(); err != nil {
		log.Fatalln("kitex-echo:", err)
	}
}
