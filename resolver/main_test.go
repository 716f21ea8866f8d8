package resolver

import (
	"fmt"
	"os"
	"sync"
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

// bindings of routes without programs, by route.
var boundRoutes sync.Map

// bound returns what comes into force of routes, the same for one route whenever it is asked for.
func bound(routes ...*Route) (all []*BoundRoute) {
	for _, r := range routes {
		b, _ := boundRoutes.LoadOrStore(r, &BoundRoute{Route: r})
		all = append(all, b.(*BoundRoute))
	}
	return all
}
