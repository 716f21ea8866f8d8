package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/framegate/framegate/test/chaos"
)

const (
	small = 1 << 10 // bytes
	large = 1 << 20

	// structHeader with the value structValue sends a call to the route in struct mode.
	structHeader = "soak-mode"
	structValue  = "struct"
)

// kind is one kind of call.
type kind struct {
	name   string
	weight int // its share of the calls is weight / the sum of all weights
	call   caller
}

// client is a connection, and its address for calls that need another one.
type client struct {
	addr string
	cc   *grpc.ClientConn
}

// kinds has all kinds of calls, with their weights.
var kinds = []kind{
	{"unary 1 KiB", 40, unaryOf(small)},
	{"unary 1 MiB", 2, unaryOf(large)},
	{"unary 1 KiB, struct", 10, inStruct(unaryOf(small))},
	{"unary 1 MiB, struct", 1, inStruct(unaryOf(large))},
	{"client stream", 8, streamOf(chaos.ClientMethod, small, 10)},
	{"client stream 1 MiB", 1, streamOf(chaos.ClientMethod, large, 3)},
	{"server stream", 8, streamOf(chaos.ServerMethod, small, 10)},
	{"server stream 1 MiB", 1, streamOf(chaos.ServerMethod, large, 3)},
	{"bidi stream", 8, streamOf(chaos.BidiMethod, small, 10)},
	{"bidi stream, struct", 4, inStruct(streamOf(chaos.BidiMethod, small, 5))},
	{"cancelled", 5, cancelled},
	{"expired", 5, expired},
	{"no route", 3, noRoute},
	{"not a message, struct", 2, inStruct(notAMessage)},
	{"not HTTP/2", 1, notHTTP2},
	{"half a preface", 1, halfAPreface},
}

// caller makes one call and returns nil when it ended as it should.
type caller func(ctx context.Context, c client) error

// inStruct returns a caller whose call goes to the route in struct mode.
func inStruct(call caller) caller {
	return func(ctx context.Context, c client) error {
		return call(metadata.AppendToOutgoingContext(ctx, structHeader, structValue), c)
	}
}

func unaryOf(size int) caller {
	return func(ctx context.Context, c client) error {
		reply := new(wrapperspb.BytesValue)
		if err := c.cc.Invoke(ctx, chaos.UnaryMethod, wrapperspb.Bytes(make([]byte, size)), reply); err != nil {
			return err
		}
		return wantSize(reply, size)
	}
}

func wantSize(m *wrapperspb.BytesValue, size int) error {
	if len(m.Value) != size {
		return status.Errorf(codes.DataLoss, "soak: an answer of %d bytes, want %d", len(m.Value), size)
	}
	return nil
}

var bothStream = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}

// streamOf returns a caller of a streaming method with n messages in each direction that streams.
func streamOf(method string, size, n int) caller {
	return func(ctx context.Context, c client) error { return stream(ctx, c, method, size, n) }
}

func stream(ctx context.Context, c client, method string, size, n int) error {
	sends, answers := n, n
	switch method {
	case chaos.ClientMethod:
		answers = 1
	case chaos.ServerMethod:
		sends = 1
		ctx = metadata.AppendToOutgoingContext(ctx, chaos.CountKey, strconv.Itoa(n))
	}
	s, err := c.cc.NewStream(ctx, bothStream, method)
	if err != nil {
		return err
	}
	m := wrapperspb.Bytes(make([]byte, size))
	for i := range sends {
		if s.SendMsg(m) != nil {
			break // RecvMsg returns the reason
		}
		if method == chaos.BidiMethod {
			if err := receive(s, size); err != nil {
				return fmt.Errorf("answer %d: %w", i, err)
			}
		}
	}
	_ = s.CloseSend()
	if method != chaos.BidiMethod {
		for i := range answers {
			if err := receive(s, size); err != nil {
				return fmt.Errorf("answer %d: %w", i, err)
			}
		}
	}
	if err := s.RecvMsg(new(wrapperspb.BytesValue)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after %d answers: %w", answers, err)
	}
	return nil
}

func receive(s grpc.ClientStream, size int) error {
	m := new(wrapperspb.BytesValue)
	if err := s.RecvMsg(m); err != nil {
		return err
	}
	return wantSize(m, size)
}

// cancelled makes a call that the client cancels between two messages.
func cancelled(parent context.Context, c client) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	s, err := c.cc.NewStream(ctx, bothStream, chaos.BidiMethod)
	if err != nil {
		return err
	}
	_ = s.SendMsg(wrapperspb.Bytes(make([]byte, small)))
	if err := receive(s, small); err != nil {
		return err
	}
	cancel()
	return wantCode(s.RecvMsg(new(wrapperspb.BytesValue)), codes.Canceled)
}

// expired makes a call whose deadline passes before the server answers.
func expired(parent context.Context, c client) error {
	ctx, cancel := context.WithTimeout(parent, 20*time.Millisecond)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, chaos.DelayKey, "1s")
	return wantCode(unaryOf(small)(ctx, c), codes.DeadlineExceeded)
}

func noRoute(ctx context.Context, c client) error {
	return wantCode(c.cc.Invoke(ctx, "/soak.Nobody/Knows", new(emptypb.Empty), new(emptypb.Empty)), codes.Unimplemented)
}

// notAMessage sends a message that struct mode cannot decode, because its only field is truncated.
func notAMessage(ctx context.Context, c client) error {
	m := new(emptypb.Empty)
	m.ProtoReflect().SetUnknown([]byte{0x0A, 0x7F, 'x'})
	return wantCode(c.cc.Invoke(ctx, chaos.UnaryMethod, m, new(emptypb.Empty)), codes.InvalidArgument)
}

func wantCode(err error, want codes.Code) error {
	if status.Code(err) != want {
		return fmt.Errorf("want code %s, got: %w", want, err)
	}
	return nil
}

// notHTTP2 connects as a client of another protocol. The connection must be closed.
func notHTTP2(ctx context.Context, c client) error {
	return knock(ctx, c.addr, bytes.Repeat([]byte("hello? "), 10), func(nc net.Conn) error {
		_, err := io.Copy(io.Discard, nc)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			return fmt.Errorf("the connection stays open: %w", err)
		}
		return nil
	})
}

// halfAPreface connects and leaves in the middle of the HTTP/2 connection preface.
func halfAPreface(ctx context.Context, c client) error {
	return knock(ctx, c.addr, []byte("PRI * HTTP/2.0\r\n"), func(net.Conn) error { return nil })
}

// knock opens a TCP connection, writes say, and calls listen with it.
func knock(ctx context.Context, addr string, say []byte, listen func(net.Conn) error) error {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	if d, ok := ctx.Deadline(); ok {
		_ = nc.SetDeadline(d) // fails only on a closed connection, which the next call finds
	}
	if _, err := nc.Write(say); err != nil {
		return err
	}
	return listen(nc)
}
