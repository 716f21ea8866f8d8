package app

import (
	"testing"

	"github.com/framegate/framegate/test/leak"
)

func TestMain(m *testing.M) {
	runAsFramegate()
	leak.Main(m, 8) // most tests wait for an etcd or a process
}
