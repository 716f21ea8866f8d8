package test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"slices"
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
	interopTargetEnv = "FRAMEGATE_TEST_INTEROP_TARGET"
	interopPassed    = "passed"

	interopCaseLimit = 20 * time.Second
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

// The calls are a multiple of the workers. The further paths have fewer.
func soak(ctx context.Context, cc *grpc.ClientConn)      { soakOf(ctx, cc, race.Choose(252, 40)) }
func shortSoak(ctx context.Context, cc *grpc.ClientConn) { soakOf(ctx, cc, race.Choose(52, 12)) }

func soakOf(ctx context.Context, cc *grpc.ClientConn, calls int) {
	interop.DoSoakTest(ctx, interop.SoakTestConfig{
		RequestSize:                      271828, // those of large_unary, the client's defaults
		ResponseSize:                     314159,
		PerIterationMaxAcceptableLatency: testbed.Patience,
		OverallTimeout:                   soakLimit,
		ServerAddr:                       cc.Target(),
		NumWorkers:                       4,
		Iterations:                       calls,
		ChannelForTest:                   func() (*grpc.ClientConn, func()) { return cc, func() {} },
	})
}

// runInteropCases is the child process of TestInterop: the package interop ends its process at a failure. It runs the cases
// whose names it reads, each with a connection of its own, and says of each that it has passed.
func runInteropCases(target string) {
	cases := append(slices.Clone(interopCases), interopCase{soakName, soak}, interopCase{shortSoakName, shortSoak})
	for names := bufio.NewScanner(os.Stdin); names.Scan(); {
		i := slices.IndexFunc(cases, func(c interopCase) bool { return c.name == names.Text() })
		if i < 0 {
			log.Fatalf("no interop case %q", names.Text())
		}
		cc, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			log.Fatalf("grpc.NewClient(%s): %v", target, err)
		}
		cases[i].run(context.Background(), cc)
		cc.Close()
		fmt.Println(interopPassed)
	}
}

// racyCases are cases that fail now and then by themselves, also direct, and how often they may.
var racyCases = map[string]int{
	// grpc-go's client learns of its own cancel in a goroutine: the server's answer to the half-close that the case sends
	// next is sometimes faster, and then there is no error. Seen once in some fifty runs.
	"cancel_after_begin": 2,
}

// interopChild runs cases in a process of its own, so that a failure is one subtest's and not the test binary's end.
type interopChild struct {
	target string

	// Of the process, while there is one:
	cmd    *exec.Cmd
	names  io.WriteCloser
	passed *bufio.Scanner
	said   *bytes.Buffer // on stderr; read when the process has ended
}

func newInteropChild(t *testing.T, target string) *interopChild {
	c := &interopChild{target: target}
	t.Cleanup(c.end)
	return c
}

func (c *interopChild) start() error {
	c.cmd, c.said = exec.Command(os.Args[0]), new(bytes.Buffer)
	// The race detector sleeps for a second at exit unless told not to.
	c.cmd.Env = append(os.Environ(), interopTargetEnv+"="+c.target, "GORACE=atexit_sleep_ms=0")
	c.cmd.Stderr = c.said
	names, err := c.cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	c.names, c.passed = names, bufio.NewScanner(out)
	return c.cmd.Start()
}

// end ends the process, if there is one.
func (c *interopChild) end() {
	if c.cmd == nil {
		return
	}
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	c.cmd = nil
}

// run runs a case. A process in which a case has failed is not used again.
func (c *interopChild) run(name string, limit time.Duration) error {
	if c.cmd == nil {
		if err := c.start(); err != nil {
			return err
		}
	}
	late := time.AfterFunc(limit, func() { _ = c.cmd.Process.Kill() })
	_, _ = fmt.Fprintln(c.names, name) // a process that has ended says nothing
	ok := false
	for !ok && c.passed.Scan() {
		ok = c.passed.Text() == interopPassed
	}
	early := late.Stop()
	if ok {
		return nil
	}
	err := c.cmd.Wait()
	c.cmd = nil
	if !early {
		err = fmt.Errorf("still running after %s", limit)
	}
	return fmt.Errorf("%w; output:\n%s", err, lastLines(c.said.String(), 20))
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
	t.Parallel()
	for _, path := range interopPaths {
		t.Run(path.name, func(t *testing.T) {
			child := newInteropChild(t, path.to(t, testbed.NewInterop(t)))
			for _, c := range interopCases {
				t.Run(c.name, func(t *testing.T) {
					err := child.run(c.name, interopCaseLimit)
					for retries := racyCases[c.name]; err != nil && retries > 0; retries-- {
						err = child.run(c.name, interopCaseLimit)
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
			child := newInteropChild(t, path.to(t, testbed.NewInterop(t)))
			require.NoError(t, child.run(path.soak, soakLimit+interopCaseLimit))
		})
	}
}
