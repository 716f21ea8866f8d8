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

// Bounds on the memory of one check, in bytes.
const (
	maxAnswer      = 4 << 10
	maxHeaders     = 16 << 10
	connBuffer     = 4 << 10
	connWindow     = 64 << 10
	maxShownAnswer = 200 // of a status message in an error
)

// grpcProber calls grpc.health.v1. It keeps its connection as long as each check gets an answer. After a check without an
// answer the next one makes a new connection, so that gRPC's backoff between dials never delays a check.
type grpcProber struct {
	address string
	request *grpc_health_v1.HealthCheckRequest
	timeout time.Duration
	options []grpc.DialOption

	conn     *grpc.ClientConn // nil before the first check and after one that broke it
	dialErrs chan error       // holds the first dial error of conn until broken takes it
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
		// Longer than the check's timeout, so that it is always the check's timeout that ends a check.
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: 2 * cfg.Timeout}),
		grpc.WithIdleTimeout(0), // keep the connection between checks, however long the interval is
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

// AuthorityOf returns the default :authority of calls to an endpoint: its address, or localhost for a unix socket, whose path
// cannot be an authority.
func AuthorityOf(address string) string {
	if strings.HasPrefix(address, "unix:") {
		return "localhost"
	}
	return address
}

// connect makes p.conn, which dials at its first call.
func (p *grpcProber) connect() (err error) {
	dialErrs := make(chan error, 1)
	p.dialErrs = dialErrs
	dialer := grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		nc, err := dial.Endpoint(ctx, &net.Dialer{}, p.address)
		if err != nil {
			select {
			case dialErrs <- err: // shown instead of gRPC's error, which wraps it in many words
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

// judge returns nil for SERVING, and else an error that names the status.
func (p *grpcProber) judge(s grpc_health_v1.HealthCheckResponse_ServingStatus) error {
	switch {
	case s == grpc_health_v1.HealthCheckResponse_SERVING:
		return nil
	case p.request.Service == "":
		return fmt.Errorf("the endpoint is %s", s)
	}
	return fmt.Errorf("service %q is %s", p.request.Service, s)
}

// broken closes the connection after a check without an answer, and returns why there was none. s is the status that gRPC
// ended the check with.
func (p *grpcProber) broken(ctx context.Context, s *status.Status) error {
	connected := p.conn.GetState() == connectivity.Ready
	p.close()
	var dialErr error
	select {
	case dialErr = <-p.dialErrs:
	default:
	}
	switch {
	case connected && (ctx.Err() != nil || s.Code() == codes.DeadlineExceeded): // the endpoint may see the deadline pass first
		return fmt.Errorf("no answer in %s", p.timeout)
	case dialErr != nil && ctx.Err() == nil:
		return dialErr
	case ctx.Err() != nil:
		return fmt.Errorf("no HTTP/2 connection in %s", p.timeout)
	}
	return fmt.Errorf("the check ended with %s: %s", s.Code(), shown(s.Message()))
}

// shown returns a message of the peer quoted and cut, so that it is safe to log.
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
