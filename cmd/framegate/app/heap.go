package app

import (
	"os"
	"runtime"
)

// heapFloor is memory that is reserved but never touched, and so costs none. The garbage collector counts it as live and
// lets at least as much garbage come together before it runs: a proxy has little that lives and much that does not, and
// would else collect every few MiB.
const heapFloor = 32 << 20

// holdHeapFloor keeps the floor until the returned function is called. Whoever sets GOGC decides alone.
func holdHeapFloor() (release func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	floor := make([]byte, heapFloor)
	return func() { runtime.KeepAlive(floor) }
}
