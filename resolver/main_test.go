package resolver

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/framegate/framegate/test/together"
)

// TestMain checks, when all tests and their cleanups are over, that no goroutine is left.
func TestMain(m *testing.M) {
	together.Wait(8) // most tests wait for an etcd
	code := m.Run()
	if code == 0 {
		var err error
		for began := time.Now(); time.Since(began) < soon; {
			if err = goleak.Find(); err == nil {
				break
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
