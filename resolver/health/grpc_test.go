package health

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/framegate/framegate/test/loopback"
	"github.com/framegate/framegate/test/refusing"
)

// quick is checked as often as a busy machine surely answers in time: how soon a change shows is for the tests with a clock
// of their own, in checker_test.go.
var quick = Config{Type: TypeGRPC, Interval: time.Second}

// once is for tests of the first check alone.
var once = Config{Type: TypeGRPC, Interval: time.Minute, Timeout: patience / 2}

func TestGRPC_NotServingTakesTheEndpointOutAfterFallChecks(t *testing.T) {
	t.Parallel()
	p := startPeer(t, listen(t, "127.0.0.1:0"), nil)
	changes := subscribe(t, newChecker(t), p.address, quick)
	first := receive(t, "the first result", changes)
	require.True(t, first.Healthy)
	require.NoError(t, first.Err)
	for range 2 {
		before := p.checks.Load()
		p.health.SetServingStatus("", notServing)
		got := receive(t, "a change", changes)
		require.False(t, got.Healthy)
		require.EqualError(t, got.Err, "the endpoint is NOT_SERVING")
		require.Equal(t, 3, got.Failures)
		require.InDelta(t, 3, p.checks.Load()-before, 1, "checks: one may have been under way")

		before = p.checks.Load()
		p.health.SetServingStatus("", serving)
		require.True(t, receive(t, "a change", changes).Healthy)
		require.InDelta(t, 2, p.checks.Load()-before, 1)
	}
	require.EqualValues(t, 1, p.connections.Load(), "one connection for all checks")
}

func TestGRPC_AsksForTheService(t *testing.T) {
	t.Parallel()
	p := startPeer(t, listen(t, "127.0.0.1:0"), nil)
	p.health.SetServingStatus("", notServing)
	p.health.SetServingStatus("good.Service", serving)
	p.health.SetServingStatus("bad.Service", notServing)
	c := newChecker(t)
	for service, want := range map[string]string{
		"":             "the endpoint is NOT_SERVING",
		"good.Service": "",
		"bad.Service":  `service "bad.Service" is NOT_SERVING`,
		"no.Service":   `service "no.Service" is unknown to the endpoint's health service`,
	} {
		cfg := once
		cfg.Service = service
		got := receive(t, "the first result", subscribe(t, c, p.address, cfg))
		require.Equal(t, want == "", got.Healthy, service)
		if want != "" {
			require.EqualError(t, got.Err, want)
		}
	}
}

func TestGRPC_SendsTheAuthority(t *testing.T) {
	t.Parallel()
	p := startPeer(t, listen(t, "127.0.0.1:0"), nil)
	unix, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	u := startPeer(t, unix, nil)
	c := newChecker(t)
	for _, test := range []struct {
		peer            *peer
		authority, want string
	}{{p, "", p.address}, {p, "shop.example.com", "shop.example.com"}, {u, "", "localhost"}, {u, "a.b:1", "a.b:1"}} {
		cfg := once
		cfg.Authority = test.authority
		require.True(t, receive(t, "the first result", subscribe(t, c, test.peer.address, cfg)).Healthy)
		eventually(t, "authority "+test.want, func() bool {
			return (*test.peer.metadata.Load())[":authority"][0] == test.want
		})
	}
	require.Contains(t, (*p.metadata.Load())["user-agent"][0], "framegate-health")
}

// proberOf returns what checks an address, for tests that say when.
func proberOf(t *testing.T, address string) (p *grpcProber, check func() error) {
	p = newGRPCProber(address, once.withDefaults())
	t.Cleanup(p.close)
	return p, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return p.probe(ctx)
	}
}

// Between the dials of gRPC's own there would be a second, then two, then four.
func TestGRPC_ARestartedEndpointIsSeenAtTheNextCheck(t *testing.T) {
	t.Parallel()
	p := startPeer(t, listen(t, loopback.Address(t)), nil)
	_, check := proberOf(t, p.address)
	require.NoError(t, check())
	for range 3 {
		p.stop()
		for range 10 {
			require.Error(t, check())
		}
		require.ErrorContains(t, check(), "refused")
		p = startPeer(t, listen(t, p.address), nil)
		require.NoError(t, check())
	}
}

// A restart between two checks is none of the caller's business.
func TestGRPC_ARestartBetweenChecksIsNoFailure(t *testing.T) {
	t.Parallel()
	p := startPeer(t, listen(t, loopback.Address(t)), nil)
	prober, check := proberOf(t, p.address)
	require.NoError(t, check())
	p.stop()
	eventually(t, "its end is heard of", func() bool { return prober.conn.GetState() != connectivity.Ready })
	p = startPeer(t, listen(t, p.address), nil)
	for range 3 {
		require.NoError(t, check())
	}
	require.EqualValues(t, 1, p.connections.Load())
}

func TestGRPC_AStoppedProcessTimesOutAndAnotherConnectionIsMade(t *testing.T) {
	t.Parallel()
	p := startPeer(t, listen(t, "127.0.0.1:0"), nil)
	v := startValve(t, p.address)
	changes := subscribe(t, newChecker(t), v.ln.Addr().String(), quick)
	require.True(t, receive(t, "the first result", changes).Healthy)
	v.setShut()
	got := receive(t, "a change", changes)
	require.False(t, got.Healthy)
	require.Equal(t, 3, got.Failures)
	require.EqualError(t, got.Err, "no HTTP/2 connection in 1s")
	require.EqualValues(t, 1, p.connections.Load())
	v.setOpen()
	require.True(t, receive(t, "a change", changes).Healthy, "through a new connection")
	require.EqualValues(t, 2, p.connections.Load())
}

func TestGRPC_ACheckThatIsNotAnsweredSaysSo(t *testing.T) {
	t.Parallel()
	p := startPeer(t, listen(t, "127.0.0.1:0"), nil)
	v := startValve(t, p.address)
	cfg := quick
	cfg.Fall = 1
	changes := subscribe(t, newChecker(t), v.ln.Addr().String(), cfg)
	require.True(t, receive(t, "the first result", changes).Healthy)
	v.setShut()
	require.EqualError(t, receive(t, "a change", changes).Err, "no answer in 1s")
}

// stub is a health service that answers as it is told.
type stub struct {
	grpc_health_v1.UnimplementedHealthServer
	check func(context.Context) (*grpc_health_v1.HealthCheckResponse, error)
}

func (s stub) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	return s.check(ctx)
}

func TestGRPC_OnlyServingIsGood(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1000)
	const silence = "no answer in 1s"
	for want, check := range map[string]func(context.Context) (*grpc_health_v1.HealthCheckResponse, error){
		"the endpoint is UNKNOWN": func(context.Context) (*grpc_health_v1.HealthCheckResponse, error) {
			return &grpc_health_v1.HealthCheckResponse{}, nil
		},
		"the endpoint is 77": func(context.Context) (*grpc_health_v1.HealthCheckResponse, error) {
			return &grpc_health_v1.HealthCheckResponse{Status: 77}, nil
		},
		"grpc.health.v1.Health/Check is UNIMPLEMENTED: the endpoint has no health service, want one or type tcp": func(context.Context) (*grpc_health_v1.HealthCheckResponse, error) {
			return nil, status.Error(codes.Unimplemented, "what?")
		},
		`the check ended with PermissionDenied: "not \x1b you"`: func(context.Context) (*grpc_health_v1.HealthCheckResponse, error) {
			return nil, status.Error(codes.PermissionDenied, "not \x1b you")
		},
		`the check ended with Unavailable: "` + long[:200] + `..."`: func(context.Context) (*grpc_health_v1.HealthCheckResponse, error) {
			return nil, status.Error(codes.Unavailable, long)
		},
		silence: func(ctx context.Context) (*grpc_health_v1.HealthCheckResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	} {
		t.Run(want[:15], func(t *testing.T) {
			t.Parallel()
			p := startPeer(t, listen(t, "127.0.0.1:0"), stub{check: check})
			cfg := once
			if want == silence {
				cfg.Timeout = time.Second
			}
			got := receive(t, "the first result", subscribe(t, newChecker(t), p.address, cfg))
			require.False(t, got.Healthy)
			require.EqualError(t, got.Err, want)
		})
	}
}

// What an endpoint can make a check hold is bounded.
func TestGRPC_AnswersThatAreTooLarge(t *testing.T) {
	t.Parallel()
	for want, check := range map[string]func(context.Context) (*grpc_health_v1.HealthCheckResponse, error){
		"the check ended with ResourceExhausted": func(context.Context) (*grpc_health_v1.HealthCheckResponse, error) {
			answer := &grpc_health_v1.HealthCheckResponse{Status: serving}
			tag := protowire.AppendTag(nil, 99, protowire.BytesType)
			answer.ProtoReflect().SetUnknown(protowire.AppendBytes(tag, make([]byte, maxAnswer)))
			return answer, nil
		},
		"the check ended with Internal": func(ctx context.Context) (*grpc_health_v1.HealthCheckResponse, error) {
			var md metadata.MD = map[string][]string{"large": {strings.Repeat("x", maxHeaders)}}
			return &grpc_health_v1.HealthCheckResponse{Status: serving}, grpc.SetHeader(ctx, md)
		},
	} {
		t.Run(want, func(t *testing.T) {
			p := startPeer(t, listen(t, "127.0.0.1:0"), stub{check: check})
			got := receive(t, "the first result", subscribe(t, newChecker(t), p.address, once))
			require.False(t, got.Healthy)
			require.ErrorContains(t, got.Err, want)
		})
	}
}

func TestGRPC_PeersThatAreNoGRPCServers(t *testing.T) {
	t.Parallel()
	hello := func(s string) func(net.Conn) {
		return func(nc net.Conn) { _, _ = fmt.Fprint(nc, s) }
	}
	const silence = "no HTTP/2 connection in 1s"
	nobody, socket := refusing.Address(t), filepath.Join(t.TempDir(), "none")
	for name, test := range map[string]struct {
		address, want string // how the error begins
	}{
		"nobody":    {nobody, "dial tcp " + nobody + ": connect: connection refused"},
		"no socket": {"unix:" + socket, "dial unix " + socket + ": connect: no such file or directory"},
		"hangs up":  {startRaw(t, func(nc net.Conn) { _ = nc.Close() }), "the check ended with Unavailable"},
		"HTTP/1":    {startRaw(t, hello("HTTP/1.1 400 Bad Request\r\n\r\n")), "the check ended with Unavailable"},
		"silent":    {startRaw(t, func(net.Conn) {}), silence},
		"endless": {startRaw(t, func(nc net.Conn) {
			for {
				if _, err := nc.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}), "the check ended with Unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := once
			if test.want == silence {
				cfg.Timeout = time.Second
			}
			got := receive(t, "the first result", subscribe(t, newChecker(t), test.address, cfg))
			require.False(t, got.Healthy)
			require.Regexp(t, "^"+regexp.QuoteMeta(test.want), got.Err.Error())
		})
	}
}

// Many endpoints for a while: each keeps its connection. They are one server here, told apart by the authority.
func TestGRPC_ManyEndpointsKeepAConnectionEach(t *testing.T) {
	t.Parallel()
	const many = 100
	p := startPeer(t, listen(t, "127.0.0.1:0"), nil)
	c := newChecker(t)
	results := make(chan Status, many)
	for i := range many {
		cfg := Config{Type: TypeGRPC, Interval: time.Second, Authority: fmt.Sprint("a", i)}
		c.Subscribe(p.address, cfg, func(s Status) { results <- s })
	}
	for range many {
		got := receive(t, "a first result", results)
		require.True(t, got.Healthy, got.Err)
	}
	eventually(t, "five checks of each", func() bool { return p.checks.Load() >= 5*many })
	require.EqualValues(t, many, p.connections.Load())
	require.Empty(t, results)
}
