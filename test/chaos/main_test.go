package chaos

import (
	"io"
	"os"
	"testing"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/netpoll"

	"github.com/framegate/framegate/test/together"
)

func TestMain(m *testing.M) {
	RunProcess()
	if os.Getenv("TEST_KITEX_LOG") == "" { // wanted only to find out why a test fails
		klog.SetOutput(io.Discard)
		netpoll.SetLoggerOutput(io.Discard)
	}
	together.Wait(8) // what the processors carry without delay
	os.Exit(m.Run())
}
