//go:build unix

package app

import (
	"os"
	"os/signal"
	"syscall"
)

// ignoreBrokenPipes keeps the process alive when the reader of its standard output or error is gone: a write then fails with
// EPIPE, and does not end the process, and with it all calls, by SIGPIPE. For other files and sockets Go's runtime does this
// by itself.
func ignoreBrokenPipes() { signal.Ignore(syscall.SIGPIPE) }

// notifyReload sends SIGHUP to reload and SIGUSR1 to reopen.
func notifyReload(reload, reopen chan<- os.Signal) {
	signal.Notify(reload, syscall.SIGHUP)
	signal.Notify(reopen, syscall.SIGUSR1)
}
