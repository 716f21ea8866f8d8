package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxExplained is how many addresses of a name are listed, and mostLines how many names, and endpoints that get no calls.
const (
	maxExplained = 10
	maxLines     = 50
)

// explain says what names among the endpoints stand for, and which endpoints get no calls.
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
