package handler

import (
	"os"
	"testing"

	"github.com/cloudwego/kitex/pkg/klog"

	"github.com/framegate/framegate/test/together"
)

func TestMain(m *testing.M) {
	together.Wait(6)
	klog.SetLevel(klog.LevelFatal)
	os.Exit(m.Run())
}
