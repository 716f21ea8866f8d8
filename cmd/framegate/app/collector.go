package app

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// minGarbage is how much more garbage, in bytes, may come together before the garbage collector runs than with Go's default
// of GOGC=100. A proxy has little live memory and makes much garbage, so that default makes it collect every few MiB.
const minGarbage = 32 << 20

// collectorPace sets the garbage collector's percentage anew after each collection, because what is live changes.
type collectorPace struct{ stopped atomic.Bool }

// paceCollector sets how often the garbage collector runs, until the process ends or stop is called, and does nothing if the
// environment has a GOGC. GOMEMLIMIT holds beside it: near that limit the collector runs more often.
func paceCollector() (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	p := new(collectorPace)
	p.set()
	return func() { p.stopped.Store(true) }
}

// set sets the percentage, and has itself called after the next collection.
func (p *collectorPace) set() {
	if p.stopped.Load() {
		return
	}
	debug.SetGCPercent(percentFor(scannedBytes()))
	sentinel := new([64]byte) // the next collection finds it unreachable
	runtime.AddCleanup(sentinel, (*collectorPace).set, p)
}

// percentFor returns the GOGC with which minGarbage may come together beyond GOGC=100, if the collector scanned so many bytes the
// last time.
func percentFor(scanned uint64) int {
	scanned = max(scanned, 1<<20)
	return 100 + int(100*minGarbage/scanned)
}

// scannedBytes returns what GOGC is a percentage of: the live heap, stacks and globals. See "GOGC" in Go's "A Guide to the Go
// Garbage Collector".
func scannedBytes() (n uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	for _, s := range samples {
		n += s.Value.Uint64()
	}
	return n
}
