//go:build !unix

package acceptor

import "math"

// OpenFileLimit returns how many files and sockets the process may have open: math.MaxInt32 if there is no limit that it
// knows.
func OpenFileLimit() int { return math.MaxInt32 }
