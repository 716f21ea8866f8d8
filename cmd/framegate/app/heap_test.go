package app

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHeapFloor_GrowsAndShrinksWithTheDocuments(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(math.MaxInt64))
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := heap()
	within := func(want int) {
		t.Helper()
		require.Eventually(t, func() bool { return max(heap()-before-want, want-heap()+before) < 8<<20 }, processLimit, 50*time.Millisecond)
	}
	var documents atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		holdHeapFloor(ctx, func() int { return int(documents.Load()) })
	}()
	within(minHeapFloor)
	documents.Store(10_000)
	within(minHeapFloor + 10_000*floorPerDocument)
	documents.Store(0)
	within(minHeapFloor)
	debug.SetMemoryLimit(minHeapFloor) // GOMEMLIMIT
	within(minHeapFloor / limitPerFloor)
	cancel()
	<-done
	within(0)
}

func TestHeapFloor_IsBoundedAndLeavesRoomUnderAMemoryLimit(t *testing.T) {
	for _, c := range []struct {
		documents int
		limit     int64
		want      int
	}{
		{0, math.MaxInt64, minHeapFloor},
		{1 << 30, math.MaxInt64, maxHeapFloor},
		{0, 64 << 20, 8 << 20},
		{10_000, 256 << 20, 32 << 20},
		{10_000, 1 << 30, minHeapFloor + 10_000*floorPerDocument},
		{1 << 30, 2 << 30, 256 << 20},
		{0, 0, 0},
	} {
		require.Equal(t, c.want, floorFor(c.documents, c.limit), c)
	}
}
