package load

import (
	"syscall"
	"time"
)

// nap blocks the thread for d, or less if a signal comes.
func nap(d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&ts, nil) // EINTR: the caller looks at the clock anyway
}
