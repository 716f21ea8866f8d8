package health

import (
	"io"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/framegate/framegate/test/together"
)

func TestMain(m *testing.M) {
	together.Wait(8)
	klog.SetOutput(io.Discard)
	goleak.VerifyTestMain(m,
		// Kitex's pollers, which are the process's.
		goleak.IgnoreAnyFunction("github.com/cloudwego/netpoll.(*defaultPoll).Wait"),
		// Kitex makes parts of streams ahead, in one goroutine of the process that never ends.
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc.preallocateForStream"),
		// Kitex's clean-up of cancelled streams: one goroutine of the process, which may take its tick to end.
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/pkg/utils.(*SharedTicker).Tick"),
	)
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
