// Package etcdfront is a proxy in front of an etcd that loses requests and answers, as a test tells it.
package etcdfront

import (
	"context"
	"net"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Loss is what a Front loses of a transaction that changes something.
type Loss int

// The losses.
const (
	None    Loss = iota
	Request      // etcd never gets it; the client gets UNAVAILABLE
	Answer       // etcd does it; the client gets UNAVAILABLE
	Silence      // etcd does it; the client gets nothing
)

// Front serves the KV and Lease services of an etcd, without Watch. Transactions that change something may be lost; see Lose.
type Front struct {
	pb.UnimplementedKVServer
	pb.UnimplementedLeaseServer
	grpc_health_v1.UnimplementedHealthServer
	Endpoint string

	kv    pb.KVClient
	lease pb.LeaseClient

	mu     sync.Mutex // guards what follows
	losses []Loss     // of the next transactions
	after  func()     // see After; nil for none
	deaf   bool       // after a Silence: KV requests get no answer
}

// New starts a front of the etcd at endpoint. t.Cleanup stops it.
func New(t testing.TB, endpoint string) *Front {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatalf("front of etcd at %s: %v", endpoint, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("front of etcd at %s: %v", endpoint, err)
	}
	f := &Front{Endpoint: l.Addr().String(), kv: pb.NewKVClient(cc), lease: pb.NewLeaseClient(cc)}
	s := grpc.NewServer()
	pb.RegisterKVServer(s, f)
	pb.RegisterLeaseServer(s, f)
	grpc_health_v1.RegisterHealthServer(s, f)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done; _ = cc.Close() })
	return f
}

// Lose sets the losses of the next transactions that change something, in order. Those after them are not lost.
func (f *Front) Lose(next ...Loss) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.losses = next
}

// After sets a function that is called once, at the next loss, before the client gets its error.
func (f *Front) After(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.after = do
}

func (f *Front) loss() (l Loss, after func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.losses) > 0 {
		l, f.losses = f.losses[0], f.losses[1:]
	}
	if after = f.after; l != None {
		f.after = nil
	}
	if l == Silence {
		f.deaf = true
	}
	return l, after
}

// silent waits for the end of ctx and returns its error, if a Silence was lost before: since then no call gets an answer.
func (f *Front) silent(ctx context.Context) error {
	f.mu.Lock()
	deaf := f.deaf
	f.mu.Unlock()
	if !deaf {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func forward(ctx context.Context) context.Context {
	md, _ := metadata.FromIncomingContext(ctx)
	return metadata.NewOutgoingContext(ctx, md)
}

// Txn implements pb.KVServer.
func (f *Front) Txn(ctx context.Context, req *pb.TxnRequest) (*pb.TxnResponse, error) {
	if err := f.silent(ctx); err != nil {
		return nil, err
	}
	if !changes(req) {
		return f.kv.Txn(forward(ctx), req)
	}
	loss, after := f.loss()
	if loss == None {
		return f.kv.Txn(forward(ctx), req)
	}
	if loss != Request {
		if resp, err := f.kv.Txn(forward(ctx), req); err != nil {
			return resp, err
		}
	}
	if after != nil {
		after()
	}
	if loss == Silence {
		return nil, f.silent(ctx)
	}
	return nil, status.Error(codes.Unavailable, "lost")
}

func changes(req *pb.TxnRequest) bool {
	for _, op := range req.Success {
		if op.GetRequestRange() == nil {
			return true
		}
	}
	return false
}

// Range implements pb.KVServer.
func (f *Front) Range(ctx context.Context, req *pb.RangeRequest) (*pb.RangeResponse, error) {
	if err := f.silent(ctx); err != nil {
		return nil, err
	}
	return f.kv.Range(forward(ctx), req)
}

// LeaseGrant implements pb.LeaseServer.
func (f *Front) LeaseGrant(ctx context.Context, req *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	return f.lease.LeaseGrant(forward(ctx), req)
}

// LeaseKeepAlive implements pb.LeaseServer.
func (f *Front) LeaseKeepAlive(in grpc.BidiStreamingServer[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]) error {
	out, err := f.lease.LeaseKeepAlive(forward(in.Context()))
	for err == nil {
		var req *pb.LeaseKeepAliveRequest
		var resp *pb.LeaseKeepAliveResponse
		if req, err = in.Recv(); err != nil {
			break
		}
		if err = out.Send(req); err != nil {
			break
		}
		if resp, err = out.Recv(); err == nil {
			err = in.Send(resp)
		}
	}
	return err
}

// LeaseRevoke implements pb.LeaseServer.
func (f *Front) LeaseRevoke(ctx context.Context, req *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	return f.lease.LeaseRevoke(forward(ctx), req)
}

// Check implements grpc_health_v1.HealthServer.
func (f *Front) Check(context.Context, *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}
