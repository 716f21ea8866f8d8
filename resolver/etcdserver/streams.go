package etcdserver

import (
	"context"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// streams ends the streams of clients, such as watches, when the server closes, because etcd would wait some seconds for
// them. Clients see UNAVAILABLE, as from a broken connection, and resume when etcd is back.
type streams struct {
	ctx context.Context // ends with end
	end context.CancelFunc
}

func newStreams() *streams {
	ctx, cancel := context.WithCancel(context.Background())
	return &streams{ctx: ctx, end: cancel}
}

// intercept is a stream interceptor that cancels the stream when end is called.
func (s *streams) intercept(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	err := handler(srv, endedStream{ServerStream: stream, ctx: ctx})
	if s.ctx.Err() != nil {
		return rpctypes.ErrGRPCStopped
	}
	return err
}

// endedStream is a stream with another context.
type endedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s endedStream) Context() context.Context { return s.ctx }
