//go:build unix

package transserver

import (
	"math"
	"syscall"
)

// OpenFileLimit is how many files and connections the process may have open.
func OpenFileLimit() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || l.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(l.Cur)
}
