// Command grpc-echo serves echo.Echo with grpc-go, and does not register itself in etcd. The README's tour uses it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os/signal"
	"syscall"

	"google.golang.org/grpc"

	"github.com/framegate/framegate/kitex_gen/echo"
	"github.com/framegate/framegate/test/tour/codec"
)

// service is the service's name. It answers with its name and the message that it gets.
type service string

func (s service) reply(req *echo.Request, index int32) *echo.Reply {
	return &echo.Reply{Message: string(s) + " heard " + req.Message, Payload: req.Payload, Index: index}
}

func (s service) say(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var req echo.Request
	if err := decode(&req); err != nil {
		return nil, err
	}
	return s.reply(&req, 0), nil
}

func (s service) stream(_ any, stream grpc.ServerStream) error {
	var req echo.Request
	if err := stream.RecvMsg(&req); err != nil {
		return err
	}
	for i := range req.Count {
		if err := stream.SendMsg(s.reply(&req, i)); err != nil {
			return err
		}
	}
	return nil
}

func (s service) collect(_ any, stream grpc.ServerStream) error {
	for n := int32(0); ; n++ {
		err := stream.RecvMsg(new(echo.Request))
		if errors.Is(err, io.EOF) {
			return stream.SendMsg(&echo.Reply{Message: fmt.Sprintf("%s counted %d", s, n), Index: n})
		}
		if err != nil {
			return err
		}
	}
}

func (s service) chat(_ any, stream grpc.ServerStream) error {
	for i := int32(0); ; i++ {
		var req echo.Request
		err := stream.RecvMsg(&req)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.SendMsg(s.reply(&req, i)); err != nil {
			return err
		}
	}
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
	s := service(*name)
	svr.RegisterService(&grpc.ServiceDesc{
		ServiceName: "echo.Echo", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Say", Handler: s.say}},
		Streams: []grpc.StreamDesc{
			{StreamName: "Stream", Handler: s.stream, ServerStreams: true},
			{StreamName: "Collect", Handler: s.collect, ClientStreams: true},
			{StreamName: "Chat", Handler: s.chat, ServerStreams: true, ClientStreams: true},
		},
	}, nil)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	defer context.AfterFunc(ctx, svr.GracefulStop)()
	if err := svr.Serve(ln); err != nil {
		log.Fatalln("grpc-echo:", err)
	}
}
