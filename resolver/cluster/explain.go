package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	maxExplained = 10 // addresses of a name that are listed
	maxLines     = 50 // names that are listed, and as many endpoints that get no calls
)

// explain returns lines for people: which addresses the host names among the endpoints have, and which endpoints get no
// calls.
func (c *Cluster) explain() (lines []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := map[string][]string{}
	for _, m := range c.members {
		if m.name != "" {
			of[m.name] = append(of[m.name], m.host.Address())
		}
	}
	names := slices.Sorted(maps.Keys(of))
	for _, name := range names[:min(len(names), maxLines)] {
		all := of[name]
		line := name + " = " + strings.Join(all[:min(len(all), maxExplained)], ", ")
		if more := len(all) - maxExplained; more > 0 {
			line += fmt.Sprintf(" and %d more", more)
		}
		lines = append(lines, line)
	}
	if more := len(names) - maxLines; more > 0 {
		lines = append(lines, fmt.Sprintf("%d more names", more))
	}
	for _, b := range c.excluded[:min(len(c.excluded), maxLines)] {
		lines = append(lines, fmt.Sprintf("%s %s: %s", b.address, b.as, b.why()))
	}
	if more := len(c.excluded) - maxLines; more > 0 {
		lines = append(lines, fmt.Sprintf("%d more that get no calls", more))
	}
	return lines
}
