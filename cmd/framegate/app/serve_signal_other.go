//go:build !unix

package app

import "os"

// ignoreBrokenPipes does nothing: here no signal comes from writing to what nobody reads.
func ignoreBrokenPipes() {}

// notifyReload does nothing: here are no such signals.
func notifyReload(_, _ chan<- os.Signal) {}
