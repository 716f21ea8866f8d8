// Package together lets tests that mostly wait do so at the same time.
package together

import (
	"flag"
	"strconv"
)

// Wait lets up to n tests that call t.Parallel run at once, however few processors there are. It is for TestMain, before the
// tests run. What -parallel says on the command line goes before it.
func Wait(n int) {
	const parallel = "test.parallel"
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == parallel })
	if !given {
		_ = flag.Set(parallel, strconv.Itoa(n)) // an error is for what is no number
	}
}
