package health

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudwego/kitex/server"
	"github.com/stretchr/testify/require"

	healthv1 "github.com/framegate/framegate/kitex_gen/grpc/health/v1"
	kitexhealth "github.com/framegate/framegate/kitex_gen/grpc/health/v1/health"
	"github.com/framegate/framegate/test/kitexlistener"
)

// kitexHealth is the health service of a Kitex server.
type kitexHealth struct {
	healthv1.Health
	status atomic.Int32
}

func (h *kitexHealth) Check(context.Context, *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_ServingStatus(h.status.Load())}, nil
}

func TestGRPC_KitexServer(t *testing.T) {
	t.Parallel()
	ln := kitexlistener.New(t)
	h := &kitexHealth{}
	h.status.Store(int32(healthv1.HealthCheckResponse_SERVING))
	s := kitexhealth.NewServer(h, server.WithListener(ln), server.WithExitWaitTime(time.Millisecond),
		server.WithExitSignal(func() <-chan error { return nil }))
	done := make(chan error, 1)
	go func() { done <- s.Run() }()
	defer func() {
		require.NoError(t, s.Stop())
		require.NoError(t, receive(t, "the end of the server", done))
	}()
	c := newChecker(t)
	defer c.Close()
	cfg := quick
	cfg.Rise, cfg.Fall = 1, 1
	changes := subscribe(t, c, ln.Addr().(*net.TCPAddr).String(), cfg)
	require.True(t, receive(t, "the first result", changes).Healthy)
	h.status.Store(int32(healthv1.HealthCheckResponse_NOT_SERVING))
	got := receive(t, "a change", changes)
	require.False(t, got.Healthy)
	require.EqualError(t, got.Err, "the endpoint is NOT_SERVING")
	h.status.Store(int32(healthv1.HealthCheckResponse_SERVING))
	require.True(t, receive(t, "a change", changes).Healthy)
}
