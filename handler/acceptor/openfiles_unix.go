//go:build unix

package acceptor

import (
	"math"
	"syscall"
)

// OpenFileLimit returns how many files and sockets the process may have open: math.MaxInt32 if there is no limit.
func OpenFileLimit() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || l.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(l.Cur)
}
