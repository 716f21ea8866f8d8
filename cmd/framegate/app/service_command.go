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

// exitError ends framegate with the exit code of a command that it ran, and without a word: that command has said what
// there was to say.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// killedBySignal is what shells add to the number of a signal to make an exit code of it.
const killedBySignal = 128

// runCommand runs the command args with keep beside it: keep's context ends when the command ends, or when SIGTERM or
// SIGINT comes. Signals are passed on to the command. It returns after both, with an *exitError if the command's exit
// code is not 0.
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

// withoutSecrets returns the environment env without the secrets that are framegate's own.
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
