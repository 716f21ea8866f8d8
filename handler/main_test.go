package handler

import (
	"os"
	"testing"

	"github.com/cloudwego/kitex/pkg/klog"

	"github.com/framegate/framegate/test/together"
)

func TestMain(m *testing.M) {
	together.Wait(16) // most tests wait
	klog.SetLevel(klog.LevelFatal)
	os.Exit(m.Run())
}
