package etcdstore

import (
	"testing"

	"github.com/framegate/framegate/test/etcdtest"
)

func TestMain(m *testing.M) { etcdtest.Main(m, 12) }
