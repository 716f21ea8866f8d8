//go:build !unix

package app

import "os"

// ignoreBrokenPipes does nothing: only Unix has SIGPIPE.
func ignoreBrokenPipes() {}

// notifyReload does nothing: only Unix has SIGHUP and SIGUSR1.
func notifyReload(_, _ chan<- os.Signal) {}
