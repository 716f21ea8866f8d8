package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/pool/dial"
)

// Bounds on what an endpoint makes a check hold, in bytes.
const (
	maxAnswer      = 4 << 10
	maxHeaders     = 16 << 10
	connBuffer     = 4 << 10
	connWindow     = 64 << 10
	maxShownAnswer = 200 // of a status message in an error
)

// grpcProber asks grpc.health.v1. It keeps its connection while that works. After anything else than an answer the next
// check makes a new one: so gRPC's own delays between dials never apply, and what broke is not used again.
type grpcProber struct {
	address string
	request *grpc_health_v1.HealthCheckRequest
	timeout time.Duration
	options []grpc.DialOption

	conn     *grpc.ClientConn // nil before the first check and after one that broke it
	dialErrs chan error       // of conn: its first error of dialling, if it was not taken yet
}

func newGRPCProber(address string, cfg Config) *grpcProber {
	p := &grpcProber{
		address: address,
		request: &grpc_health_v1.HealthCheckRequest{Service: cfg.Service},
		timeout: cfg.Timeout,
	}
	p.options = []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority(authorityOf(address, cfg)),
		// gRPC's own time is not to end with the check's: which of the two is noticed first would be chance.
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: 2 * cfg.Timeout}),
		grpc.WithIdleTimeout(0), // the checks themselves keep it in use
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithUserAgent("framegate-health"),
		grpc.WithMaxHeaderListSize(maxHeaders),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithReadBufferSize(connBuffer),
		grpc.WithWriteBufferSize(connBuffer),
		grpc.WithStaticStreamWindowSize(connWindow),
		grpc.WithStaticConnWindowSize(connWindow),
	}
	return p
}

func authorityOf(address string, cfg Config) string {
	return cmp.Or(cfg.Authority, AuthorityOf(address))
}

// AuthorityOf returns the :authority of calls to an endpoint that nothing else names: its address, or localhost for a unix
// socket, whose path is none.
func AuthorityOf(address string) string {
	if strings.HasPrefix(address, "unix:") {
		return "localhost"
	}
	return address
}

// connect makes p.conn, which dials when it is used.
func (p *grpcProber) connect() (err error) {
	dialErrs := make(chan error, 1)
	p.dialErrs = dialErrs
	dialer := grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		nc, err := dial.Endpoint(ctx, &net.Dialer{}, p.address)
		if err != nil {
			select {
			case dialErrs <- err: // gRPC's own says it in many more words
			default:
			}
		}
		return nc, err
	})
	p.conn, err = grpc.NewClient("passthrough:///endpoint", append(slices.Clip(p.options), dialer)...) // the dialler knows the address
	return err
}

func (p *grpcProber) probe(ctx context.Context) error {
	if p.conn == nil {
		if err := p.connect(); err != nil {
			return err
		}
	}
	answer, err := grpc_health_v1.NewHealthClient(p.conn).Check(ctx, p.request)
	if err == nil {
		return p.judge(answer.GetStatus())
	}
	switch s := status.Convert(err); s.Code() {
	case codes.Unimplemented:
		return errors.New("grpc.health.v1.Health/Check is UNIMPLEMENTED: the endpoint has no health service, want one or type tcp")
	case codes.NotFound:
		return fmt.Errorf("service %q is unknown to the endpoint's health service", p.request.Service)
	default:
		return p.broken(ctx, s)
	}
}

// judge returns nil for SERVING only.
func (p *grpcProber) judge(s grpc_health_v1.HealthCheckResponse_ServingStatus) error {
	switch {
	case s == grpc_health_v1.HealthCheckResponse_SERVING:
		return nil
	case p.request.Service == "":
		return fmt.Errorf("the endpoint is %s", s)
	}
	return fmt.Errorf("service %q is %s", p.request.Service, s)
}

// broken says why there was no answer, and gives the connection up.
func (p *grpcProber) broken(ctx context.Context, s *status.Status) error {
	connected := p.conn.GetState() == connectivity.Ready
	p.close()
	var dialErr error
	select {
	case dialErr = <-p.dialErrs:
	default:
	}
	switch {
	case connected && (ctx.Err() != nil || s.Code() == codes.DeadlineExceeded): // the endpoint's clock may be first
		return fmt.Errorf("no answer in %s", p.timeout)
	case dialErr != nil && ctx.Err() == nil:
		return dialErr
	case ctx.Err() != nil:
		return fmt.Errorf("no HTTP/2 connection in %s", p.timeout)
	}
	return fmt.Errorf("the check ended with %s: %s", s.Code(), shown(s.Message()))
}

// shown returns a message that a peer may have written, so that it is safe to show.
func shown(message string) string {
	if len(message) > maxShownAnswer {
		message = message[:maxShownAnswer] + "..."
	}
	return fmt.Sprintf("%q", message)
}

func (p *grpcProber) close() {
	if p.conn != nil {
		_ = p.conn.Close()
		p.conn = nil
	}
}
