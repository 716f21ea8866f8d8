package kitexstream

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cloudwego/kitex/pkg/endpoint/sep"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/pkg/streaming"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/handler/structmode/compress"
	"github.com/framegate/framegate/resolver/spec"
)

// maxBuiltinRequest bounds a message to framegate's builtin services, before and after decompression.
const maxBuiltinRequest = 4 << 10

// BuiltinService returns a stream middleware for a listener's Kitex server, whose builtin services are all of the package pkg. It
// corrects three things that Kitex does:
//
//   - Kitex looks services up without their package, so that grpc.health.v1.Health would answer /my.shop.Health/Check. The
//     middleware sends calls of other packages, and those whose path names no method, to serve. With pkg "" it sends all.
//   - Kitex takes as much memory for a message as the client announces. The middleware bounds a message by maxBuiltinRequest.
//   - Kitex adds a suffix to the message of an error. The middleware sends the error as the service returned it.
func BuiltinService(serve func(stream.Downstream), pkg string) sep.StreamMiddleware {
	return func(next sep.StreamEndpoint) sep.StreamEndpoint {
		return func(ctx context.Context, st streaming.ServerStream) error {
			getter, ok := st.(streaming.GRPCStreamGetter)
			if !ok {
				return next(ctx, st)
			}
			down, err := streamOf(getter.GetGRPCStream())
			if err != nil {
				return err
			}
			if pkg == "" || rpcinfo.GetRPCInfo(ctx).Invocation().PackageName() != pkg || !spec.ValidMethod(down.Method()) {
				serve(down)
				return nil
			}
			if err := next(ctx, &builtinServerStream{st, builtinStream{getter.GetGRPCStream(), down}}); err != nil {
				e := builtinError(err)
				down.End(e.Status(), e.Trailer())
			}
			return nil
		}
	}
}

// builtinError returns the local error for an error of a builtin service.
func builtinError(err error) *local.Error {
	var mine *local.Error
	var st *status.Error
	switch {
	case errors.As(err, &mine):
		return mine
	case errors.As(err, &st):
		return local.Errorf(st.GRPCStatus().Code(), local.ReasonOwnService, "%s", st.GRPCStatus().Message())
	}
	return local.Errorf(codes.Internal, local.ReasonInternal, "%v", err)
}

// builtinServerStream hands a builtinStream to the generated code of a service.
type builtinServerStream struct {
	streaming.ServerStream
	stream builtinStream
}

// GetGRPCStream implements streaming.GRPCStreamGetter.
func (s *builtinServerStream) GetGRPCStream() streaming.Stream { return s.stream }

// builtinStream is the stream of a call to a builtin service. It bounds messages by maxBuiltinRequest.
type builtinStream struct {
	streaming.Stream
	down *Stream
}

// RecvMsg decodes the next message into m, which must be a generated message. It returns io.EOF at the end of the request.
func (s builtinStream) RecvMsg(m any) error {
	if s.down.RequestEmpty() {
		return local.Errorf(codes.Internal, local.ReasonBadRequestFraming, "request: no message, want one")
	}
	var msg message
	r := frame.Redirect{Src: s.down, Dst: &msg, MaxBytes: maxBuiltinRequest}
	end, err := r.Step()
	if end {
		return io.EOF
	}
	if e := frame.LocalError(err, local.ReasonBadRequestFraming, "request"); e != nil {
		return e
	}
	if err != nil {
		return err
	}
	payload := []byte(msg[frame.PrefixLen:])
	if msg[0] == 1 {
		codec, ok := compress.Get(s.down.Encoding())
		if !ok {
			return local.Errorf(codes.Unimplemented, local.ReasonBadRequestFraming, "request: grpc-encoding %q is not known", local.Printable(s.down.Encoding()))
		}
		if payload, err = codec.Decompress(payload, maxBuiltinRequest); err != nil {
			return local.Errorf(codes.Internal, local.ReasonBadRequestFraming, "request: %v", err)
		}
	}
	pb, ok := m.(interface{ Unmarshal([]byte) error })
	if !ok {
		return fmt.Errorf("%T is no generated message", m)
	}
	if err := pb.Unmarshal(payload); err != nil {
		return local.Errorf(codes.Internal, local.ReasonBadRequestFraming, "request: %v", err)
	}
	return nil
}

// message is a frame.Writer that keeps the last piece written. A message of maxBuiltinRequest bytes is one piece, with its prefix.
type message []byte

// Piece returns n bytes for Write.
func (*message) Piece(n int) []byte { return make([]byte, n) }

// Write keeps p.
func (m *message) Write(p []byte) error {
	*m = p
	return nil
}
