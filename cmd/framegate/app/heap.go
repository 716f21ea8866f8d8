package app

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"time"
)

// A heap floor is memory that is reserved but never touched, and so costs none. The garbage collector counts it as live
// and lets at least as much garbage come together before it runs: a proxy has little that lives and much that does not,
// and would else collect every few MiB. Each run has to look at all that lives, so the floor grows with the routes and
// instances that are held: ten thousand of them must not make a call dearer.
const (
	minHeapFloor     = 32 << 20
	floorPerDocument = 8 << 10 // several times what a route takes
	maxHeapFloor     = 1 << 30
	floorInterval    = time.Second
	limitPerFloor    = 8 // a floor is at most this part of GOMEMLIMIT, near which the collector would run all the time
)

// holdHeapFloor keeps a floor that fits the number of documents held until ctx ends. Whoever sets GOGC decides alone.
func holdHeapFloor(ctx context.Context, documents func() int) {
	if os.Getenv("GOGC") != "" {
		return
	}
	var floor []byte
	tick := time.NewTicker(floorInterval)
	defer tick.Stop()
	for {
		want := floorFor(documents(), debug.SetMemoryLimit(-1))
		if have := len(floor); want > have+have/8 || want < have-have/4 { // making one costs a run of the collector
			floor = nil // the old one goes first
			floor = make([]byte, want)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		runtime.KeepAlive(floor)
	}
}

// floorFor returns the floor, in bytes, for documents under a memory limit of limit bytes: the largest int64 for none.
func floorFor(documents int, limit int64) int {
	return int(min(minHeapFloor+floorPerDocument*int64(documents), maxHeapFloor, limit/limitPerFloor))
}
