package gateway

import (
	"context"
	"sync"

	"github.com/cloudwego/kitex/pkg/endpoint"
	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/pkg/rpcinfo"

	v1 "github.com/framegate/framegate/kitex_gen/grpc/health/v1"
)

// health is framegate's own grpc.health.v1.Health: the empty service name stands for the whole server. It is one for
// all listeners.
type health struct {
	mu      sync.Mutex // guards serving and changed
	serving bool
	changed chan struct{} // closed and replaced at each change
	closing chan struct{} // closed when watches must end
}

func newHealth() *health {
	return &health{serving: true, changed: make(chan struct{}), closing: make(chan struct{})}
}

// stop turns to NOT_SERVING and ends the watches after they have told it. It is called once.
func (h *health) stop() {
	h.mu.Lock()
	h.serving = false
	close(h.changed)
	h.changed = make(chan struct{})
	h.mu.Unlock()
	close(h.closing)
}

func (h *health) state() (v1.HealthCheckResponse_ServingStatus, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.serving {
		return v1.HealthCheckResponse_SERVING, h.changed
	}
	return v1.HealthCheckResponse_NOT_SERVING, h.changed
}

// ready reports whether the server takes calls and means to go on.
func (h *health) ready() bool {
	s, _ := h.state()
	return s == v1.HealthCheckResponse_SERVING
}

// Check implements v1.Health.
func (h *health) Check(_ context.Context, req *v1.HealthCheckRequest) (*v1.HealthCheckResponse, error) {
	if req.Service != "" {
		return nil, status.Errorf(codes.NotFound, "unknown service %q", req.Service)
	}
	s, _ := h.state()
	return &v1.HealthCheckResponse{Status: s}, nil
}

// Watch implements v1.Health.
func (h *health) Watch(req *v1.HealthCheckRequest, stream v1.Health_WatchServer) error {
	ctx := stream.Context()
	if req.Service != "" {
		if err := stream.Send(&v1.HealthCheckResponse{Status: v1.HealthCheckResponse_SERVICE_UNKNOWN}); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-h.closing:
		}
		return nil
	}
	for {
		s, changed := h.state()
		if err := stream.Send(&v1.HealthCheckResponse{Status: s}); err != nil {
			return err
		}
		if s == v1.HealthCheckResponse_NOT_SERVING {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// plainAnswers keeps our own services from compressing: the names that Kitex knows include encodings that are only
// forwarded.
func plainAnswers(next endpoint.Endpoint) endpoint.Endpoint {
	return func(ctx context.Context, req, resp any) error {
		remote.SetSendCompressor(rpcinfo.GetRPCInfo(ctx), "")
		return next(ctx, req, resp)
	}
}
