package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/spf13/cobra"

	"github.com/framegate/framegate/cmd/framegate/load"
)

// newBenchCommand returns `framegate bench`: the flags of package load, its report on stdout, its progress on stderr.
func newBenchCommand() *cobra.Command {
	cfg := load.Defaults()
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "bench --target HOST:PORT [--baseline HOST:PORT]",
		Short: "Put load on an echo.Echo service, through framegate or straight, and measure it",
		Long: `bench calls the service echo.Echo (idl/echo.proto), such as 'framegate demo --stay' leaves running, through Kitex clients, and
prints throughput, latencies and errors.

Each call starts when the one before it on its worker has ended, --concurrency at a time. With --rate calls start on a schedule
instead, and a latency counts from the time that its call was due: calls kept waiting by a slow answer show the wait.

Modes: unary sends --size bytes and gets them back; client sends --messages messages and gets one reply; server sends one and gets
--messages replies; bidi keeps a stream open per worker and counts round trips on it.

With --baseline the same load goes to that address too, usually the service itself without the proxy, in turns of a quarter of
--duration, so that a machine that drifts drifts for both. The last column is target ÷ baseline.

Ctrl-C ends the run and prints what was measured so far. bench fails if not one call to an address succeeded.

--json prints one object on one line; names carry their units: target.throughput.calls_per_s, target.latency_us.p99,
target.errors, ratio.throughput, and so on.`,
		Example: `  framegate bench --target 127.0.0.1:8888 --duration 5s
  framegate bench --target 127.0.0.1:8888 --baseline 127.0.0.1:9001 --mode bidi --concurrency 16
  framegate bench --target 127.0.0.1:8888 --rate 2000 --json | jq .target.latency_us.p99`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			set := cmd.Flags().Changed
			if !set("connections") {
				cfg.Connections = max(1, min(cfg.Connections, cfg.Concurrency))
			}
			if set("messages") && (cfg.Mode == load.Unary || cfg.Mode == load.Bidi) {
				return usageErrorf("--messages: %d with --mode %s, want it with client or server only", cfg.Messages, cfg.Mode)
			}
			return runBench(cmd.Context(), cfg, asJSON, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}

	f := cmd.Flags()
	f.StringVar(&cfg.Target, "target", cfg.Target, "address under load, host:port (required)")
	f.StringVar(&cfg.Baseline, "baseline", cfg.Baseline, "address to compare with, host:port; it gets the same load")
	f.StringVar((*string)(&cfg.Mode), "mode", string(cfg.Mode), "kind of call: unary, client, server or bidi")
	f.DurationVar(&cfg.Duration, "duration", cfg.Duration, "measured time for each address, at most "+load.MaxDuration.String())
	f.DurationVar(&cfg.Warmup, "warmup", cfg.Warmup, "load before that, not counted; 0s to "+load.MaxWarmup.String())
	f.IntVar(&cfg.Connections, "connections", cfg.Connections,
		fmt.Sprintf("HTTP/2 connections, 1 to %d and at most --concurrency", load.MaxConnections))
	f.IntVar(&cfg.Concurrency, "concurrency", cfg.Concurrency,
		fmt.Sprintf("calls, or with bidi streams, in flight over all connections, 1 to %d", load.MaxConcurrency))
	f.IntVar(&cfg.SizeBytes, "size", cfg.SizeBytes, fmt.Sprintf("payload of a message in bytes, 0 to %d", load.MaxSizeBytes))
	f.IntVar(&cfg.Messages, "messages", cfg.Messages,
		fmt.Sprintf("messages per call in the client and server modes, 1 to %d", load.MaxMessages))
	f.IntVar(&cfg.RatePerSecond, "rate", cfg.RatePerSecond,
		fmt.Sprintf("calls per second over all connections, up to %d; 0 = as fast as they return", load.MaxRatePerSecond))
	f.BoolVar(&asJSON, "json", false, "print the result as one JSON object")
	return cmd
}

// runBench makes the load and prints its result. If every call failed, it prints the result and returns an error.
func runBench(ctx context.Context, cfg load.Config, asJSON bool, stdout, stderr io.Writer) error {
	if err := cfg.Validate(); err != nil {
		var bad *load.ConfigError
		if errors.As(err, &bad) {
			return usageErrorf("%s", bad.Flags())
		}
		return err
	}
	// Kitex logs a line for each connection that it cannot open and each stream that it breaks off; the report counts them. SetOutput
	// and not SetLevel, because SetLevel is a data race with servers that log in the same process, as in tests.
	klog.SetOutput(io.Discard)

	var progress func(load.Progress)
	terminal := isTerminal(stderr)
	if terminal {
		progress = func(p load.Progress) { fmt.Fprint(stderr, clearLine, benchProgress(p)) }
	}
	result, err := load.Run(ctx, cfg, progress)
	if terminal {
		fmt.Fprint(stderr, clearLine)
	}
	if err != nil {
		return err
	}
	write := result.WriteText
	if asJSON {
		write = result.WriteJSON
	}
	if err := write(stdout); err != nil {
		return fmt.Errorf("bench: print the result: %w", err)
	}
	return result.Err()
}

// clearLine returns to the beginning of a terminal's line and erases it.
const clearLine = "\r\x1b[K"

// benchProgress returns the line that the terminal shows while the load runs.
func benchProgress(p load.Progress) string {
	return fmt.Sprintf("%v of %v, %s: %.0f calls/s, %d calls, %d errors", p.Elapsed.Round(time.Second), p.Total.Round(time.Second),
		p.Side, p.CallsPerSecond, p.Calls, p.Errors)
}

// isTerminal reports whether w is a character device, which a terminal is and a file or a pipe is not.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
