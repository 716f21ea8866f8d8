package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
)

// exitError makes framegate exit with the code of the command that it ran. Run prints nothing for it, because the command has
// printed its own errors.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// killedBySignal plus the number of a signal is the exit code for a command that the signal killed, as in shells.
const killedBySignal = 128

// runCommand runs the command args and, beside it, keep, whose context ends when the command ends, or when SIGTERM or SIGINT
// comes. Signals are passed on to the command. runCommand returns when both have ended, with an *exitError if the command's
// exit code is not 0.
func runCommand(cmd *cobra.Command, args []string, keep func(context.Context)) error {
	signals := make(chan os.Signal, 16)
	for _, s := range passedOn {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
	defer signal.Stop(signals)
	if err := cmd.Context().Err(); err != nil { // a signal came before they were caught here
		return err
	}
	child := exec.Command(args[0], args[1:]...)
	child.Env = withoutSecrets(os.Environ())
	child.Stdin, child.Stdout, child.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	if err := child.Start(); err != nil {
		return fmt.Errorf("COMMAND: %w", err)
	}
	ctx, leave := context.WithCancel(context.WithoutCancel(cmd.Context()))
	defer leave()
	var keeper sync.WaitGroup
	keeper.Go(func() { keep(ctx) })
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	for {
		select {
		case s := <-signals:
			if s == syscall.SIGTERM || s == syscall.SIGINT {
				leave()
			}
			if !fromTerminal(s) {
				_ = child.Process.Signal(s) // fails if the command has ended
			}
		case err := <-ended:
			leave()
			keeper.Wait()
			return commandError(child.ProcessState, err)
		}
	}
}

// withoutSecrets returns env without the variables that have framegate's secrets.
func withoutSecrets(env []string) []string {
	return slices.DeleteFunc(env, func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return name == etcdPasswordEnv || name == adminTokenEnv
	})
}

func commandError(state *os.ProcessState, err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return &exitError{code: killedBySignal + int(status.Signal())}
	}
	return &exitError{code: state.ExitCode()}
}
