package load

import (
	"testing"

	"github.com/cloudwego/kitex/pkg/klog"

	"github.com/framegate/framegate/test/leak"
)

func TestMain(m *testing.M) {
	klog.SetLevel(klog.LevelFatal) // a line per failed call otherwise
	leak.Main(m, 4)
}
