package app

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// openTerminal returns both ends of a pseudo terminal.
func openTerminal(t *testing.T) (keyboard, tty *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = keyboard.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = tty.Close() })
	return keyboard, tty
}

// Ctrl-C reaches framegate and COMMAND from the terminal. Passed on besides, it would be COMMAND's second, which ends
// many servers before they have drained.
func TestServiceRegister_CtrlCReachesTheCommandOnce(t *testing.T) {
	t.Parallel()
	c := newServiceCLI(t)
	keyboard, tty := openTerminal(t)
	cmd := framegate(t, "service", "register", "--name", "echo", "--address", "h:1", "--etcd", c.endpoint, "--", "sh", "-c", `
		trap '' INT # the one that sleeps has none from its beginning
		sleep 30 >/dev/null 2>&1 &
		trap 'echo interrupted' INT
		trap 'kill $!; exit 3' TERM
		echo up
		while kill -0 $!; do wait $!; done`)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, cmd.Start())
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(keyboard); in.Scan(); {
			lines <- in.Text()
		}
	}()
	interrupted := 0
	wait := func(all ...string) { // in any order
		t.Helper()
		deadline := time.After(processLimit)
		for len(all) > 0 {
			select {
			case line, ok := <-lines:
				require.True(t, ok, "%q", all)
				interrupted += strings.Count(line, "interrupted")
				all = slices.DeleteFunc(all, func(what string) bool { return strings.Contains(line, what) })
			case <-deadline:
				t.Fatalf("not within %s: %q", processLimit, all)
			}
		}
	}
	wait("up")
	c.eventually(1)
	_, err := keyboard.Write([]byte{3})
	require.NoError(t, err)
	wait("interrupted", "deregistered") // by now framegate has taken its own
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	var exit interface{ ExitCode() int }
	require.ErrorAs(t, cmd.Wait(), &exit)
	require.Equal(t, 3, exit.ExitCode())
	require.NoError(t, tty.Close())
	for line := range lines {
		interrupted += strings.Count(line, "interrupted")
	}
	require.Equal(t, 1, interrupted)
}
