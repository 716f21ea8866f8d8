//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package tape

import (
	"os"
	"syscall"
)

// lock locks a file until it is closed, or fails if it is locked: see flock(2).
func lock(file *os.File) error {
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
