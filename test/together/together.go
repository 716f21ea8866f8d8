// Package together lets tests that mostly wait run at the same time.
package together

import (
	"flag"
	"strconv"

	"github.com/framegate/framegate/test/race"
)

// Wait lets up to n tests that call t.Parallel run at once, even on fewer processors, and half as many with the race detector,
// which takes several times the processor's time. It is for TestMain, before the tests run. The flag -parallel of the command
// line overrides n.
func Wait(n int) {
	const parallel = "test.parallel"
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == parallel })
	if !given {
		_ = flag.Set(parallel, strconv.Itoa(race.Choose(n, max(n/2, 1)))) // fails only for a value that is no number
	}
}
