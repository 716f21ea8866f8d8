// Command grpc-echo is an echo.Echo on grpc-go that knows nothing of etcd. The README's tour uses it.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"os/signal"
	"syscall"

	"google.golang.org/grpc"

	"github.com/framegate/framegate/kitex_gen/echo"
	"github.com/framegate/framegate/test/tour/codec"
)

// service answers with its name.
type service string

func (s service) say(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var req echo.Request
	if err := decode(&req); err != nil {
		return nil, err
	}
	return &echo.Reply{Message: string(s) + " heard " + req.Message}, nil
}

func main() {
	address := flag.String("address", "127.0.0.1:9002", "address to listen on")
	name := flag.String("name", "grpc-echo", "what it calls itself in its answers")
	flag.Parse()
	ln, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatalln("grpc-echo:", err)
	}
	svr := grpc.NewServer(grpc.ForceServerCodec(codec.Proto{}))
	svr.RegisterService(&grpc.ServiceDesc{
		ServiceName: "echo.Echo", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Say", Handler: service(*name).say}},
	}, nil)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	defer context.AfterFunc(ctx, svr.GracefulStop)()
	if err := svr.Serve(ln); err != nil {
		log.Fatalln("grpc-echo:", err)
	}
}
