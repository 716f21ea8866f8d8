// Command kitex-echo serves echo.Echo with Kitex and registers itself in etcd through registry-etcd, as any Kitex service
// may. The README uses it.
package main

import (
	"flag"
	"log"
	"net"

	"github.com/cloudwego/kitex/pkg/registry"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/server"
	etcdregistry "github.com/kitex-contrib/registry-etcd"

	"github.com/framegate/framegate/cmd/framegate/demo/echoservice"
	echosvc "github.com/framegate/framegate/kitex_gen/echo/echo"
)

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
	svr := echosvc.NewServer(echoservice.New("kitex-echo"),
		server.WithServiceAddr(addr),
		server.WithRegistry(reg),
		server.WithRegistryInfo(&registry.Info{ServiceName: *name, Weight: 10}),
		server.WithServerBasicInfo(&rpcinfo.EndpointBasicInfo{ServiceName: *name}),
	)
	if err := svr.Run(); err != nil {
		log.Fatalln("kitex-echo:", err)
	}
}
