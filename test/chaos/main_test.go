package chaos

import (
	"io"
	"os"
	"testing"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/netpoll"
)

func TestMain(m *testing.M) {
	RunProcess()
	if os.Getenv("TEST_KITEX_LOG") == "" { // wanted only to find out why a test fails
		klog.SetOutput(io.Discard)
		netpoll.SetLoggerOutput(io.Discard)
	}
	os.Exit(m.Run())
}
