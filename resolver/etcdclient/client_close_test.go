package etcdclient

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/framegate/framegate/test/etcdtest"
)

// A client may be left with a watch that hears nothing of its end, see Close. Whoever closes it goes on all the same.
func TestCloseClient_DoesNotWaitForAWatchThatNeverEnds(t *testing.T) {
	t.Parallel()
	at := etcdtest.Shared(t)
	cfg, err := Config{Endpoints: []string{at.Endpoint}}.ClientConfig()
	require.NoError(t, err)
	opening := make(chan struct{})
	deaf := func(_ context.Context, _ *grpc.StreamDesc, cc *grpc.ClientConn, _ string, _ grpc.Streamer, _ ...grpc.CallOption) (grpc.ClientStream, error) {
		close(opening)
		for s := cc.GetState(); s != connectivity.Shutdown; s = cc.GetState() {
			cc.WaitForStateChange(context.Background(), s)
		}
		return nil, context.Canceled
	}
	cfg.DialOptions = append(cfg.DialOptions, grpc.WithChainStreamInterceptor(deaf))
	cli, err := clientv3.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		for range cli.Watch(ctx, "k") {
		}
	}()
	<-opening
	cancel()
	<-watching
	began, closed := time.Now(), make(chan struct{})
	go func() { defer close(closed); Close(cli) }()
	select {
	case <-closed:
	case <-time.After(clientCloseTimeout + 20*time.Second):
		t.Fatal("the client is not closed")
	}
	require.GreaterOrEqual(t, time.Since(began), clientCloseTimeout, "it is a client that does not end by itself")
}
