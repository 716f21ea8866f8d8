// Package app is framegate's command line.
//
// Enter at Run; each command is in the file of its name, and output.go has -o, the format of what they print.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/framegate/framegate/resolver/plain"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a mistake in how a command was called.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

func usageErrorf(format string, a ...any) error { return &usageError{msg: fmt.Sprintf(format, a...)} }

// untilSignal returns a context that ends with the first SIGTERM or SIGINT. Once it has ended, a second signal kills the
// process, as by default. The caller calls stop, which waits for the goroutine.
func untilSignal(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-signals:
		case <-ctx.Done():
		}
		signal.Stop(signals)
		cancel()
	}()
	return ctx, func() {
		cancel()
		<-done
	}
}

// Run runs the command line args and returns the exit code. The first SIGTERM or SIGINT ends the command's context, a second
// one kills the process.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := untilSignal(ctx)
	defer stop()
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	var exit *exitError
	if errors.As(err, &exit) {
		return exit.code
	}
	fmt.Fprintf(stderr, "framegate: %s\n", oneLine(err))
	var usage *usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// oneLine returns the text of an error on one line, joined errors separated by semicolons, without terminal control
// characters.
func oneLine(err error) string {
	return plain.Line(strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; "))
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "framegate",
		Short:         "A gRPC proxy server built on CloudWeGo Kitex",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cmd.Help(); err != nil {
				return err
			}
			return usageErrorf("a command is missing")
		},
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageErrorf("%s: %v (see %s --help)", cmd.CommandPath(), err, cmd.CommandPath())
	})
	root.AddCommand(newDemoCommand(), newServeCommand(), newRouteCommand(), newServiceCommand(), newEndpointCommand(), newMirrorCommand(), newSchemaCommand(), newTapCommand(), newReplayCommand(), newBenchCommand(), newVersionCommand())
	return root
}

// noArgs refuses arguments. An unknown subcommand is an argument too.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		return usageErrorf("%s: unknown command %q (see %s --help)", cmd.CommandPath(), args[0], cmd.CommandPath())
	}
	return usageErrorf("%s: unexpected argument %q, want none", cmd.CommandPath(), args[0])
}
