package app

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func gcPercent() int {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return int(sample[0].Value.Uint64())
}

func TestPaceCollector_FollowsWhatIsLive(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	stop := paceCollector()
	defer stop()
	within := func(lower, upper int) {
		t.Helper()
		require.Eventually(t, func() bool {
			runtime.GC()
			return gcPercent() >= lower && gcPercent() <= upper
		}, processLimit, 10*time.Millisecond)
	}
	within(150, 3300)
	live := make([]byte, 256<<20)
	within(100, 120)
	runtime.KeepAlive(live)
	within(150, 3300)

	stop()
	for range 3 { // one may have begun to set it before
		runtime.GC()
		time.Sleep(10 * time.Millisecond)
	}
	debug.SetGCPercent(77)
	runtime.GC()
	runtime.GC()
	require.Equal(t, 77, gcPercent())
}

func TestPaceCollector_LeavesGOGCAlone(t *testing.T) {
	t.Setenv("GOGC", "77")
	defer debug.SetGCPercent(debug.SetGCPercent(77))
	defer paceCollector()()
	runtime.GC()
	runtime.GC()
	require.Equal(t, 77, gcPercent())
}

func TestPaceCollector_Percent(t *testing.T) {
	t.Parallel()
	for scanned, want := range map[uint64]int{0: 3300, 1 << 20: 3300, 32 << 20: 200, 64 << 20: 150, 1 << 30: 103, 1 << 40: 100} {
		require.Equal(t, want, percentFor(scanned), "%d bytes", scanned)
	}
}
