package health

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var errBad = errors.New("bad")

// results are a letter for each check: + good, - failed. The letter of states for the same check says what the
// target is then: h healthy, u unhealthy.
func TestRecord_RiseAndFallCountAfterTheFirstCheck(t *testing.T) {
	for _, c := range []struct {
		rise, fall      int
		results, states string
	}{
		{2, 3, "+--+--+---", "hhhhhhhhhu"},
		{2, 3, "+---+-+-++", "hhhuuuuuuh"},
		{2, 3, "-+++", "uuhh"},
		{2, 3, "-++--+---", "uuhhhhhhu"},
		{1, 1, "+-+-", "huhu"},
		{1, 1, "-+-+", "uhuh"},
		{5, 1, "-++++-+++++", "uuuuuuuuuuh"},
	} {
		var r record
		require.Equal(t, Status{Healthy: true}, r.status(), "before the first check")
		got, failures := "", 0
		for i, result := range c.results {
			var err error
			failures++
			if result == '-' {
				err = errBad
			} else {
				failures = 0
			}
			was, at := r.state, time.Unix(int64(i), 0)
			require.Equal(t, r.add(err, at, c.rise, c.fall), r.state != was)
			got += map[state]string{unknown: "?", healthy: "h", unhealthy: "u"}[r.state]
			require.Equal(t, Status{Healthy: r.state == healthy, Checked: at, Err: err, Failures: failures}, r.status())
		}
		require.Equal(t, c.states, got, "%+v", c)
	}
}
