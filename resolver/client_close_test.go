package resolver

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// stoppingWatch refuses each watch and breaks its stream, as an etcd that stops does.
type stoppingWatch struct {
	etcdserverpb.UnimplementedWatchServer
	refused chan struct{}
}

func (s *stoppingWatch) Watch(stream etcdserverpb.Watch_WatchServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	_ = stream.Send(&etcdserverpb.WatchResponse{Header: &etcdserverpb.ResponseHeader{}, Created: true, Canceled: true, CancelReason: "stopping"})
	select {
	case s.refused <- struct{}{}:
	default:
	}
	return status.Error(codes.Unavailable, "stopping")
}

// A client may be left with a watch that never ends. Whoever closes it goes on all the same.
func TestCloseClient_DoesNotWaitForAWatchThatNeverEnds(t *testing.T) {
	tries := 300 // about one in thirty is left so
	for left := false; !left && tries > 0; tries-- {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		server, watches := grpc.NewServer(), &stoppingWatch{refused: make(chan struct{}, 1)}
		etcdserverpb.RegisterWatchServer(server, watches)
		served := make(chan error, 1)
		go func() { served <- server.Serve(ln) }()
		cli, err := NewEtcdClient(EtcdClientConfig{Endpoints: []string{ln.Addr().String()}})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		watching := make(chan struct{})
		go func() {
			defer close(watching)
			for range cli.Watch(ctx, "k") {
			}
		}()
		<-watches.refused
		server.Stop()
		require.NoError(t, <-served)
		began, closed := time.Now(), make(chan struct{})
		go func() {
			defer close(closed)
			cancel()
			closeClient(cli)
		}()
		select {
		case <-closed:
			left = time.Since(began) >= clientCloseTimeout
		case <-time.After(clientCloseTimeout + 10*time.Second):
			t.Fatal("the client is not closed")
		}
	}
}
