package pool

import (
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/cloudwego/kitex/pkg/klog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	klog.SetOutput(io.Discard) // Kitex logs each reset and each broken connection
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(kitexGoroutines...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

var kitexGoroutines = []goleak.Option{
	// Kitex makes parts of streams ahead, in one goroutine of the process that never ends.
	goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc.preallocateForStream"),
	// Kitex's clean-up of cancelled streams: one goroutine of the process, which may take its tick to end.
	goleak.IgnoreAnyFunction("github.com/cloudwego/kitex/pkg/utils.(*SharedTicker).Tick"),
}
