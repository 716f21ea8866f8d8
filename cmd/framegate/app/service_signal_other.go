//go:build !unix

package app

import (
	"os"
	"syscall"
)

// passedOn are the signals that a command gets from the framegate that runs it.
var passedOn = []os.Signal{syscall.SIGTERM, os.Interrupt}

// fromTerminal reports whether a signal has come from the terminal, which has signalled the command too.
func fromTerminal(s os.Signal) bool { return s == os.Interrupt }
