package testbed

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/protobuf/proto"
)

// RawHandler handles one call of a raw backend. The error that it returns is the call's status.
type RawHandler func(stream grpc.ServerStream) error

// NewRaw starts a raw backend and returns its address: a grpc-go server that calls h for every call of every method, with
// messages as bytes.
func NewRaw(t testing.TB, h RawHandler, options ...grpc.ServerOption) string {
	t.Helper()
	return NewRawAt(t, "tcp", "127.0.0.1:0", h, options...)
}

// NewRawAt is NewRaw on a network and address of the test's choice.
func NewRawAt(t testing.TB, network, address string, h RawHandler, options ...grpc.ServerOption) string {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	options = append([]grpc.ServerOption{
		grpc.ForceServerCodec(rawCodec{}),
		grpc.MaxRecvMsgSize(math.MaxInt32),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { return h(stream) }),
	}, options...)
	return serveGRPC(t, ln, grpc.NewServer(options...))
}

// ServeGRPC serves on a port of 127.0.0.1 with s and returns the address.
func ServeGRPC(t testing.TB, s *grpc.Server) string {
	t.Helper()
	return serveGRPC(t, listen(t), s)
}

func serveGRPC(t testing.TB, ln net.Listener, s *grpc.Server) string {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(ln); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("grpc-go server: %v", err)
		}
	}()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return ln.Addr().String()
}

// DialGRPC returns a grpc-go client of addr whose messages are bytes: see Call, Send and Recv.
func DialGRPC(t testing.TB, addr string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	options = append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodec(rawCodec{}),
			grpc.MaxCallRecvMsgSize(math.MaxInt32),
			grpc.MaxCallSendMsgSize(math.MaxInt32),
		),
	}, options...)
	cc, err := grpc.NewClient(addr, options...)
	if err != nil {
		t.Fatalf("grpc.NewClient(%s): %v", addr, err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

// Call opens a stream that both sides may send on. The caller ends it, by reading to its end or by ctx.
func Call(ctx context.Context, cc *grpc.ClientConn) (grpc.ClientStream, error) {
	return cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, Method)
}

// Unary makes one call with one message each way.
func Unary(ctx context.Context, cc *grpc.ClientConn, msg []byte, options ...grpc.CallOption) ([]byte, error) {
	var reply []byte
	err := cc.Invoke(ctx, Method, &msg, &reply, options...)
	return reply, err
}

// Send sends one message on a stream of a raw backend or of Call.
func Send(stream interface{ SendMsg(m any) error }, msg []byte) error { return stream.SendMsg(&msg) }

// Recv receives one message from a stream of a raw backend or of Call.
func Recv(stream interface{ RecvMsg(m any) error }) ([]byte, error) {
	var msg []byte
	err := stream.RecvMsg(&msg)
	return msg, err
}

// rawCodec passes messages as *[]byte. It calls itself proto, so that the content-type is the usual one.
type rawCodec struct{}

var _ encoding.Codec = rawCodec{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) ([]byte, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("testbed: message of type %T, want *[]byte", v)
	}
	return *b, nil
}

func (rawCodec) Unmarshal(data []byte, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("testbed: message of type %T, want *[]byte", v)
	}
	*b = append([]byte(nil), data...) // grpc-go reuses data after Unmarshal
	return nil
}

// ProtoCodec encodes proto.Messages, as grpc-go's default codec does. With it a server of NewRaw gets messages instead of
// bytes.
type ProtoCodec struct{}

var _ encoding.Codec = ProtoCodec{}

// Name implements encoding.Codec.
func (ProtoCodec) Name() string { return "proto" }

// Marshal implements encoding.Codec.
func (ProtoCodec) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("testbed: message of type %T, want a proto.Message", v)
	}
	return proto.Marshal(m)
}

// Unmarshal implements encoding.Codec.
func (ProtoCodec) Unmarshal(data []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("testbed: message of type %T, want a proto.Message", v)
	}
	return proto.Unmarshal(data, m)
}
