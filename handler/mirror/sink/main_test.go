package sink

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/framegate/framegate/test/together"
)

func TestMain(m *testing.M) {
	together.Wait(8)
	goleak.VerifyTestMain(m)
}

// patience is how long tests wait for what must happen on a busy machine.
const patience = 60 * time.Second

// closing closes s when the test has ended, without waiting for what is not delivered.
func closing(t testing.TB, s Sink) {
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Close(ctx)
	})
}

// eventually waits until s has stats of which ok is true, and returns them.
func eventually(t testing.TB, s Sink, ok func(Stats) bool) Stats {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		st := s.Stats()
		if ok(st) {
			return st
		}
		if time.Since(begin) > patience {
			require.Fail(t, "not in time", "stats: %+v", st)
		}
	}
}

// settled waits until nothing waits any more.
func settled(t testing.TB, s Sink) Stats {
	t.Helper()
	return eventually(t, s, func(st Stats) bool { return st.Waiting == 0 })
}

// down waits until s is down, for a reason that has text.
func down(t testing.TB, s Sink, text string) Stats {
	t.Helper()
	return eventually(t, s, func(st Stats) bool { return st.State == StateDown && strings.Contains(st.Error, text) })
}
