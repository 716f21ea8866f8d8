package leak

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/framegate/framegate/test/together"
)

// patience is how long goroutines may take to end on a busy machine.
const patience = 20 * time.Second

// Main is for TestMain. It runs the tests, up to parallel of those that call t.Parallel at a time, and fails if a goroutine
// is left after all tests and their cleanups. It does not return.
func Main(m *testing.M, parallel int, options ...goleak.Option) {
	together.Wait(parallel)
	code := m.Run()
	if code == 0 {
		var err error
		for began := time.Now(); time.Since(began) < patience; {
			if err = goleak.Find(options...); err == nil {
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
