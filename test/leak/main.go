package leak

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/framegate/framegate/test/together"
)

// patience is how long goroutines may take to end on a busy machine.
const patience = 20 * time.Second

// Kitex are the goroutines that Kitex and netpoll start once in a process, or once for an address, and never end.
func Kitex() []goleak.Option {
	const kitex = "github.com/cloudwego/kitex/"
	return []goleak.Option{
		goleak.IgnoreAnyFunction("github.com/cloudwego/netpoll.(*defaultPoll).Wait"), // the event loops
		// Makes buffers of client streams in advance.
		goleak.IgnoreAnyFunction(kitex + "pkg/remote/trans/nphttp2/grpc.preallocateForStream"),
		// Looks for streams whose context has ended, and for addresses that have changed. It may take its tick to end.
		goleak.IgnoreAnyFunction(kitex + "pkg/utils.(*SharedTicker).Tick"),
		goleak.IgnoreAnyFunction(kitex + "pkg/loadbalance/lbcache.(*BalancerFactory).watcher"),
		// Workers of calls with a timeout, which end when they have been idle for long.
		goleak.IgnoreAnyFunction(kitex + "client.(*timeoutPool).createWorker.func1"),
		goleak.IgnoreAnyFunction(kitex + "client.(*timeoutPool).createTicker.func1"),
	}
}

// Main is for TestMain. It runs the tests, up to parallel of those that call t.Parallel at a time, then closes what the tests
// of the package shared, and fails if a goroutine other than those of Kitex is left. It does not return.
func Main(m *testing.M, parallel int, closers ...func() error) {
	together.Wait(parallel)
	code := m.Run()
	for _, closer := range closers {
		code = max(code, failure(closer()))
	}
	if code == 0 {
		code = failure(Await(Kitex()...))
	}
	os.Exit(code)
}

// failure prints an error and returns the exit code for it.
func failure(err error) (code int) {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// Await waits until no goroutine is left but those that the options ignore. The error names those that are left after
// patience.
func Await(options ...goleak.Option) (err error) {
	for began := time.Now(); time.Since(began) < patience; {
		if err = goleak.Find(options...); err == nil {
			return nil
		}
	}
	return err
}
