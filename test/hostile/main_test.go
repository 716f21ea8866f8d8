package hostile

import (
	"testing"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/netpoll"

	"github.com/framegate/framegate/test/chaos"
	"github.com/framegate/framegate/test/leak"
	"github.com/framegate/framegate/test/testlog"
)

// libraries is what Kitex and netpoll log.
var libraries testlog.Buffer

func TestMain(m *testing.M) {
	chaos.RunProcess()
	klog.SetOutput(&libraries)
	netpoll.SetLoggerOutput(&libraries)
	leak.Main(m, 1) // a world measures the process, and so has it to itself
}
