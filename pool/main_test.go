package pool

import (
	"io"
	"testing"

	"github.com/cloudwego/kitex/pkg/klog"

	"github.com/framegate/framegate/test/leak"
)

func TestMain(m *testing.M) {
	klog.SetOutput(io.Discard) // Kitex logs each reset and each broken connection
	leak.Main(m, 8)
}
