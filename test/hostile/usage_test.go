package hostile

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/framegate/framegate/test/leak"
	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/testbed"
)

// usage is what the process holds.
type usage struct {
	files  []string
	ignore []goleak.Option // its goroutines, and those that libraries never end
}

func takeUsage(t *testing.T) usage {
	t.Helper()
	// There is one sweeper for each connection policy that was ever used.
	sweeper := goleak.IgnoreAnyFunction("github.com/framegate/framegate/pool.(*Group).sweepIdle")
	return usage{openFiles(t), append(leak.Kitex(), leak.IgnoreCurrent(t), sweeper)}
}

// awaitBack waits until there are no descriptors and no goroutines that were not there before.
func (u usage) awaitBack(t *testing.T) {
	t.Helper()
	testbed.Poll(t, func() error {
		if now := openFiles(t); len(now) > len(u.files) {
			return fmt.Errorf("%d open files %q, %d before %q", len(now), now, len(u.files), u.files)
		}
		return goleak.Find(u.ignore...)
	})
}

// openFiles returns what the process's descriptors are.
func openFiles(t *testing.T) (files []string) {
	t.Helper()
	const dir = "/proc/self/fd/"
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if target, err := os.Readlink(dir + e.Name()); err == nil { // not the descriptor that lists them
			files = append(files, target)
		}
	}
	slices.Sort(files)
	return files
}

// maxGrowth is how much more resident memory the process may take while it is attacked, all peers included, and after all attacks.
// The race detector takes several times as much for what there is, and keeps it.
var maxGrowth = race.Choose[int64](64<<20, 1<<30)

// memory watches the resident memory of the process.
type memory struct {
	stop func() // ends the watch; may be called more than once

	mu      sync.Mutex // guards samples
	samples []sample
}

type sample struct {
	at    time.Time
	bytes int64
}

const watchEvery = 10 * time.Millisecond

// watchMemory begins with as little memory as there can be.
func watchMemory(t *testing.T) *memory {
	t.Helper()
	debug.FreeOSMemory()
	m, over := &memory{}, make(chan struct{})
	var watching sync.WaitGroup
	m.stop = sync.OnceFunc(func() { close(over); watching.Wait() })
	t.Cleanup(m.stop)
	watching.Go(func() {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			now := residentBytes(t)
			m.mu.Lock()
			m.samples = append(m.samples, sample{time.Now(), now})
			m.mu.Unlock()
			select {
			case <-over:
				return
			case <-tick.C:
			}
		}
	})
	return m
}

// peak returns the most that there was during m.
func (m *memory) peak(during mark) (most int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.samples {
		if s.at.After(during.from) && s.at.Before(during.to) {
			most = max(most, s.bytes)
		}
	}
	return most
}

// check ends the watch. It wants no attack to take much more than there was at its beginning, and all together not to leave much more
// than calm.
func (m *memory) check(t *testing.T, calm int64, attacks []mark) {
	t.Helper()
	m.stop()
	most := mark{what: "no attack"}
	for _, a := range attacks {
		a.resident = m.peak(a) - a.resident
		if a.resident > maxGrowth {
			t.Errorf("got %d MiB more resident memory during %s, want at most %d", a.resident>>20, a.what, maxGrowth>>20)
		}
		if a.resident > most.resident {
			most = a
		}
	}
	debug.FreeOSMemory()
	left := residentBytes(t) - calm
	t.Logf("resident memory: %d MiB while quiet, at most %d MiB more during %s, %d MiB more afterwards", calm>>20, most.resident>>20, most.what, left>>20)
	if left > maxGrowth {
		t.Errorf("got %d MiB more resident memory after all attacks, want at most %d", left>>20, maxGrowth>>20)
	}
}

// residentBytes reads the second field of /proc/self/statm, in pages; proc(5).
func residentBytes(t *testing.T) int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Errorf("resident memory: %v", err)
		return 0
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		t.Errorf("resident memory: %v", err)
	}
	return pages * int64(os.Getpagesize())
}

// heapBytes returns the memory of all that is in use.
func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// wantHeapBack wants what is in use to be what it was before, and slack. Buffers of what is idle are given back in time.
func wantHeapBack(t *testing.T, before, slack int64) {
	t.Helper()
	grown := heapBytes() - before
	for looks := 0; grown > slack && looks < 20; looks++ {
		<-time.After(testbed.Patience / 20)
		grown = heapBytes() - before
	}
	require.LessOrEqual(t, grown>>10, slack>>10, "KiB of the heap")
}
