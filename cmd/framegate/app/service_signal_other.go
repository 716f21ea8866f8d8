//go:build !unix

package app

import (
	"os"
	"syscall"
)

// passedOn are the signals that framegate passes on to the command that it runs.
var passedOn = []os.Signal{syscall.SIGTERM, os.Interrupt}

// fromTerminal reports whether a signal has come from the terminal, which sends it to the command too.
func fromTerminal(s os.Signal) bool { return s == os.Interrupt }
