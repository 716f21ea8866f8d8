package test

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/testbed"
)

const (
	interopCaseEnv   = "FRAMEGATE_TEST_INTEROP_CASE"
	interopTargetEnv = "FRAMEGATE_TEST_INTEROP_TARGET"

	interopCaseLimit = 20 * time.Second
	shortSoakCalls   = 100 // for the further paths
	soakLimit        = 60 * time.Second
)

// interopCase runs one case of the package interop, which exits the process when the case fails.
type interopCase struct {
	name string
	run  func(ctx context.Context, cc *grpc.ClientConn)
}

// onService adapts the cases that take a client of the test service.
func onService(do func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption)) func(context.Context, *grpc.ClientConn) {
	return func(ctx context.Context, cc *grpc.ClientConn) { do(ctx, testgrpc.NewTestServiceClient(cc)) }
}

var interopCases = []interopCase{
	{"empty_unary", onService(interop.DoEmptyUnaryCall)},
	{"large_unary", onService(interop.DoLargeUnaryCall)},
	{"client_streaming", onService(interop.DoClientStreaming)},
	{"server_streaming", onService(interop.DoServerStreaming)},
	{"ping_pong", onService(interop.DoPingPong)},
	{"empty_stream", onService(interop.DoEmptyStream)},
	{"timeout_on_sleeping_server", onService(interop.DoTimeoutOnSleepingServer)},
	{"cancel_after_begin", onService(interop.DoCancelAfterBegin)},
	{"cancel_after_first_response", onService(interop.DoCancelAfterFirstResponse)},
	{"status_code_and_message", onService(interop.DoStatusCodeAndMessage)},
	{"special_status_message", onService(interop.DoSpecialStatusMessage)},
	{"custom_metadata", onService(interop.DoCustomMetadata)},
	{"unimplemented_method", interop.DoUnimplementedMethod},
	{"unimplemented_service", func(ctx context.Context, cc *grpc.ClientConn) {
		interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(cc))
	}},
}

const (
	soakName      = "rpc_soak"
	shortSoakName = "rpc_soak_short"
)

func soak(ctx context.Context, cc *grpc.ClientConn)      { soakOf(ctx, cc, race.Choose(1000, 200)) }
func shortSoak(ctx context.Context, cc *grpc.ClientConn) { soakOf(ctx, cc, shortSoakCalls) }

func soakOf(ctx context.Context, cc *grpc.ClientConn, calls int) {
	interop.DoSoakTest(ctx, interop.SoakTestConfig{
		RequestSize:                      271828, // those of large_unary, the client's defaults
		ResponseSize:                     314159,
		PerIterationMaxAcceptableLatency: 5 * time.Second,
		OverallTimeout:                   soakLimit,
		ServerAddr:                       cc.Target(),
		NumWorkers:                       4,
		Iterations:                       calls,
		ChannelForTest:                   func() (*grpc.ClientConn, func()) { return cc, func() {} },
	})
}

// runInteropCase is the child process of TestInterop: the package interop ends its process at a failure.
func runInteropCase(name, target string) {
	cc, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatalf("grpc.NewClient(%s): %v", target, err)
	}
	defer cc.Close()
	for _, c := range append(interopCases, interopCase{soakName, soak}, interopCase{shortSoakName, shortSoak}) {
		if c.name == name {
			c.run(context.Background(), cc)
			return
		}
	}
	log.Fatalf("no interop case %q", name)
}

// racyCases are cases that fail now and then by themselves, also direct, and how often they may.
var racyCases = map[string]int{
	// grpc-go's client learns of its own cancel in a goroutine: the server's answer to the half-close that the case sends
	// next is sometimes faster, and then there is no error. Seen once in some fifty runs.
	"cancel_after_begin": 2,
}

// interopChild runs the case in a process of its own, so that a failure is this subtest's and not the test binary's end.
func interopChild(name, target string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	// The race detector sleeps for a second at exit unless told not to.
	cmd.Env = append(os.Environ(), interopCaseEnv+"="+name, interopTargetEnv+"="+target, "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("still running after %s; output:\n%s", limit, lastLines(string(out), 20))
	case err != nil:
		return fmt.Errorf("%w; output:\n%s", err, lastLines(string(out), 20))
	}
	return nil
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// interopPaths are direct, frame mode, and struct mode with each source of a schema.
var interopPaths = []struct {
	name string
	to   via
	soak string
}{
	{"direct", direct, soakName},
	{"proxied", proxied, soakName},
	{"struct by files", structured, shortSoakName},
	{"struct by reflection", reflected, shortSoakName},
	{"struct by a schema in etcd", structuredByEtcd, shortSoakName},
}

func TestInterop(t *testing.T) {
	for _, path := range interopPaths {
		t.Run(path.name, func(t *testing.T) {
			target := path.to(t, testbed.NewInterop(t))
			for _, c := range interopCases {
				t.Run(c.name, func(t *testing.T) {
					err := interopChild(c.name, target, interopCaseLimit)
					for retries := racyCases[c.name]; err != nil && retries > 0; retries-- {
						err = interopChild(c.name, target, interopCaseLimit)
					}
					require.NoError(t, err)
				})
			}
		})
	}
}

func TestInterop_Soak(t *testing.T) {
	for _, path := range interopPaths {
		t.Run(path.name, func(t *testing.T) {
			require.NoError(t, interopChild(path.soak, path.to(t, testbed.NewInterop(t)), soakLimit+interopCaseLimit))
		})
	}
}
