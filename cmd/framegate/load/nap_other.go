//go:build !linux

package load

import "time"

// nap waits for d; it may be a millisecond late.
func nap(d time.Duration) { time.Sleep(d) }
