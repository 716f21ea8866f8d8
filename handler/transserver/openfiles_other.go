//go:build !unix

package transserver

import "math"

// OpenFileLimit is how many files and connections the process may have open.
func OpenFileLimit() int { return math.MaxInt32 }
