package app

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/framegate/framegate/test/together"
)

// TestMain checks, when all tests and their cleanups are over, that no goroutine is left.
func TestMain(m *testing.M) {
	runAsFramegate()
	together.Wait(6) // most tests wait for an etcd or a process
	code := m.Run()
	if code == 0 {
		var err error
		for began := time.Now(); time.Since(began) < 20*time.Second; {
			if err = goleak.Find(kitexGoroutines()...); err == nil {
				break
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// kitexGoroutines are those that Kitex starts once, or once per address, and never ends.
func kitexGoroutines() []goleak.Option {
	const kitex = "github.com/cloudwego/kitex/pkg/"
	return []goleak.Option{
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/client.(*timeoutPool).createWorker.func1"), // they end when they are idle for long
		goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/client.(*timeoutPool).createTicker.func1"),
		goleak.IgnoreTopFunction(kitex + "loadbalance/lbcache.(*BalancerFactory).watcher"),
		goleak.IgnoreTopFunction(kitex + "utils.(*SharedTicker).Tick"),
		goleak.IgnoreTopFunction(kitex + "remote/trans/nphttp2/grpc.preallocateForStream"),
		goleak.IgnoreAnyFunction("github.com/cloudwego/netpoll.(*defaultPoll).Wait"),
	}
}
