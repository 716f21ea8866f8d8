package match

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/routetest"
)

func TestTable_HasMethodsForItsOwnListenersOnly(t *testing.T) {
	var entries []*Entry[int]
	for _, r := range []*spec.Route{routetest.Route("other", "/a.S/M", 1, "other", "else"), routetest.Route("edge", "/a.S/M", 0, "edge")} {
		entries = append(entries, NewEntry(r, "file", 0))
	}
	table := NewTable(entries, []string{"main", "edge"})
	require.Len(t, table.byListener, 1, "the writer of routes would choose how many there are")
}
