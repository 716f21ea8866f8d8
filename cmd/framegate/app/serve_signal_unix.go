//go:build unix

package app

import (
	"os"
	"os/signal"
	"syscall"
)

// ignoreBrokenPipes keeps the process alive when nobody reads its standard output or error any more: writing there is
// then an error (EPIPE), and no signal that ends all calls. Other files and sockets never have that signal in Go.
func ignoreBrokenPipes() { signal.Ignore(syscall.SIGPIPE) }

// notifyReload takes SIGHUP and SIGUSR1.
func notifyReload(reload, reopen chan<- os.Signal) {
	signal.Notify(reload, syscall.SIGHUP)
	signal.Notify(reopen, syscall.SIGUSR1)
}
