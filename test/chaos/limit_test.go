package chaos

import (
	"fmt"
	"testing"
)

// A backend lets a connection have one stream at a time, or none at all. A call that finds no room there was not seen
// there.
func TestMaxStreams_NoCallIsLost(t *testing.T) {
	t.Parallel()
	for _, limit := range []uint32{1, 0} {
		for name, p := range map[string]plan{"waiting": defaults, "failing": failingWhenFull} {
			t.Run(fmt.Sprintf("%d %s when full", limit, name), func(t *testing.T) {
				t.Parallel()
				raw := NewRaw(t, RawConfig{LimitStreams: true, MaxStreams: limit})
				s := begin(t, p, asServers(three(t)[:2], raw)...)
				s.end(after)
				t.Logf("%d streams were refused", raw.Refused())
				s.wantNoneLost(s.all())
				s.wantStreamsWhole()
			})
		}
	}
}
