package app

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	runAsFramegate()
	os.Exit(m.Run())
}
