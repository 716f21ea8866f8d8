package gateway

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/cloudwego/kitex/pkg/endpoint"
	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/pkg/rpcinfo"

	"github.com/framegate/framegate/handler"
	v1 "github.com/framegate/framegate/kitex_gen/grpc/health/v1"
	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/limit"
	"github.com/framegate/framegate/resolver/spec"
)

// health is the health of the whole server: the status that framegate's builtin grpc.health.v1.Health gives to the empty
// service name. All listeners share it.
//
//	not serving ──first routes──> serving ──drain──> not serving, for good
//	     └────────drain──────────────────────────────────^
type health struct {
	resolver *resolver.Resolver
	sources  *sources
	upstream *upstream
	drain    *drainer          // when it begins, Watch streams must end
	watches  limit.Concurrency // Watch streams under way
	refused  atomic.Int64      // Watch streams refused since the start
}

// watching returns how many Watch streams are under way, and how many were refused since the start.
func (h *health) watching() (now int, refused int64) { return h.watches.Active(), h.refused.Load() }

// notReady returns why calls should not be sent here now, or nil if they should.
func (h *health) notReady() error {
	if h.drain.isOn() {
		return errors.New("draining")
	}
	return h.sources.notReady()
}

// state returns the status, and a channel that is closed when it changes, nil if it never does.
func (h *health) state() (v1.HealthCheckResponse_ServingStatus, <-chan struct{}) {
	if h.drain.isOn() {
		return v1.HealthCheckResponse_NOT_SERVING, nil
	}
	ready := h.sources.ready()
	select {
	case <-ready:
		return v1.HealthCheckResponse_SERVING, h.drain.on
	default:
		return v1.HealthCheckResponse_NOT_SERVING, ready
	}
}

// listenerHealth is the builtin health service of one listener. It answers also for services to which routes of the listener
// lead: a service is SERVING while each route that takes its calls has an endpoint that may be used.
type listenerHealth struct {
	*health
	listener string
}

// healthPoll is how often a Watch stream of a service computes the service's status.
const healthPoll = 200 * time.Millisecond

// serviceStatus returns the status of a service, SERVICE_UNKNOWN if no route takes its calls. Routes are matched with the
// metadata of ctx. before is the previous result for the same stream, or the zero value.
func (h *listenerHealth) serviceStatus(ctx context.Context, service string, before resolver.ServiceHealth) (v1.HealthCheckResponse_ServingStatus, resolver.ServiceHealth) {
	md, _ := metadata.FromIncomingContext(ctx)
	req := spec.Request{Listener: h.listener, Header: spec.Header(md)}
	if authority := md.Get(":authority"); len(authority) > 0 {
		req.Authority = authority[0]
	}
	now := h.resolver.ServiceHealth(service, req, before)
	switch {
	case !now.Known() && h.sources.notReady() == nil:
		return v1.HealthCheckResponse_SERVICE_UNKNOWN, now
	case now.Serving() && h.notReady() == nil:
		return v1.HealthCheckResponse_SERVING, now
	}
	// A client that hears NOT_SERVING may send no calls, and without calls nobody would connect to an endpoint again that
	// could not be connected to. So try those endpoints now.
	now.Unreachable(func(p *policy.Policy, address string) { h.upstream.try(p, address) })
	return v1.HealthCheckResponse_NOT_SERVING, now
}

// Check implements v1.Health.
func (h *listenerHealth) Check(ctx context.Context, req *v1.HealthCheckRequest) (*v1.HealthCheckResponse, error) {
	s, _ := h.state()
	if req.Service != "" {
		if s, _ = h.serviceStatus(ctx, req.Service, resolver.ServiceHealth{}); s == v1.HealthCheckResponse_SERVICE_UNKNOWN {
			return nil, status.Errorf(codes.NotFound, "unknown service %q: no route takes its calls", req.Service)
		}
	}
	return &v1.HealthCheckResponse{Status: s}, nil
}

// Watch implements v1.Health.
func (h *listenerHealth) Watch(req *v1.HealthCheckRequest, stream v1.Health_WatchServer) error {
	if !h.watches.Acquire() {
		h.refused.Add(1)
		return handler.ErrManyWatches
	}
	defer h.watches.Release()
	if req.Service != "" {
		return h.watchService(req.Service, stream)
	}
	ctx := stream.Context()
	told := v1.HealthCheckResponse_UNKNOWN
	for {
		s, changed := h.state()
		if s != told {
			if err := stream.Send(&v1.HealthCheckResponse{Status: s}); err != nil {
				return err
			}
			told = s
		}
		if changed == nil {
			return nil
		}
		select {
		case <-changed:
		case <-h.drain.on:
		case <-ctx.Done():
			return nil
		}
	}
}

// watchService sends each change of a service's status until the client goes, or the server drains: then a last one.
func (h *listenerHealth) watchService(service string, stream v1.Health_WatchServer) error {
	ctx := stream.Context()
	look := time.NewTicker(healthPoll)
	defer look.Stop()
	told := v1.HealthCheckResponse_UNKNOWN
	var known resolver.ServiceHealth
	for over := false; ; {
		var now v1.HealthCheckResponse_ServingStatus
		if now, known = h.serviceStatus(ctx, service, known); now != told {
			if err := stream.Send(&v1.HealthCheckResponse{Status: now}); err != nil {
				return err
			}
			told = now
		}
		if over {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil
		case <-h.drain.on:
			over = true
		}
	}
}

// plainAnswers keeps the builtin services from compressing their answers, because the encodings registered with Kitex include
// some that framegate can only forward.
func plainAnswers(next endpoint.Endpoint) endpoint.Endpoint {
	return func(ctx context.Context, req, resp any) error {
		remote.SetSendCompressor(rpcinfo.GetRPCInfo(ctx), "")
		return next(ctx, req, resp)
	}
}
