//go:build !linux

package load

import "time"

// nap waits for d, perhaps a millisecond longer.
func nap(d time.Duration) { time.Sleep(d) }
