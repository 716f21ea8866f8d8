package health

import (
	"io"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/leak"
)

func TestMain(m *testing.M) {
	klog.SetOutput(io.Discard)
	leak.Main(m, 16)
}

const patience = 30 * time.Second

// receive returns the next value of ch.
func receive[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		require.FailNow(t, "none came", "%s, in %s", what, patience)
		panic("unreachable")
	}
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, patience, time.Millisecond, what)
}

// newChecker returns a Checker that the test's end closes.
func newChecker(t *testing.T) *Checker {
	c := NewChecker(nil)
	t.Cleanup(c.Close)
	return c
}

// subscribe subscribes to an address until the test's end, and returns what changed is called with.
func subscribe(t *testing.T, c *Checker, address string, cfg Config) <-chan Status {
	t.Helper()
	require.NoError(t, cfg.Validate())
	changes := make(chan Status, 100)
	t.Cleanup(c.Subscribe(address, cfg, func(s Status) { changes <- s }))
	return changes
}
