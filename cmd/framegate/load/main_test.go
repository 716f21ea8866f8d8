package load

import (
	"testing"

	"github.com/cloudwego/kitex/pkg/klog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	klog.SetLevel(klog.LevelFatal) // a line per failed call otherwise
	goleak.VerifyTestMain(m, kitexGoroutines()...)
}

// kitexGoroutines are those that Kitex starts once, or once per address, and never ends.
func kitexGoroutines() []goleak.Option {
	const kitex = "github.com/cloudwego/kitex/pkg/"
	return []goleak.Option{
		// Drops balancers that have not been used for a while: one per address that a client was made for.
		goleak.IgnoreTopFunction(kitex + "loadbalance/lbcache.(*BalancerFactory).watcher"),
		// Resolves the addresses of all balancers again, every 5 s; another looks for streams whose context has ended, as long as
		// there are connections.
		goleak.IgnoreTopFunction(kitex + "utils.(*SharedTicker).Tick"),
		// Makes the parts of streams ahead of their use: one per process.
		goleak.IgnoreTopFunction(kitex + "remote/trans/nphttp2/grpc.preallocateForStream"),
		// netpoll's pollers, a fixed number per process.
		goleak.IgnoreAnyFunction("github.com/cloudwego/netpoll.(*defaultPoll).Wait"),
	}
}
