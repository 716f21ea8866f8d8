package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// ID names the endpoints that a cluster has: the instances of a service, or the endpoints that a backend of a route lists.
type ID struct {
	Service string // empty for endpoints that a backend lists
	Tags    string // that the instances must have, such as a=b,c=d; empty for any

	// The backend that lists the endpoints; empty beside Service.
	Source  string // of the route, such as etcd
	Route   string
	Backend string // its name, or #0 and so on by its place in the route
}

// State is the state of a cluster. Backends of one service share a cluster if they have the same tags, health checks,
// ejection, panic percentage and DNS settings; else there are several clusters with one ID, which differ in Routes.
type State struct {
	ID
	Routes    []string // names of the routes that use it, sorted
	Endpoints int      // that have a weight
	Usable    int      // of these; see EndpointState
	Panic     bool     // too few are usable, so that calls go to all

	// Counted since the cluster was made. A cluster that is closed and made again begins at 0.
	PanicCalls         uint64 // attempts that were balanced in panic
	Ejections          uint64
	EjectionsPrevented uint64 // by the bound on how many endpoints are ejected at once
}

// EndpointState is what is known of an endpoint of a cluster. An address in several clusters has one in each.
type EndpointState struct {
	ID
	Address string
	Name    string // the host:port whose look-up gave Address; empty if Address is as written
	Weight  int    // as written; 0 takes no calls
	Active  int    // attempts under way
	Usable  bool   // healthy, not ejected and not Unreachable; calls may still try an endpoint that is only Unreachable

	Healthy      bool      // as far as is known; true without checks
	Checked      time.Time // when the last health check ended; zero if there was none
	HealthError  error     // why the last health check failed; nil if it did not
	EjectedUntil time.Time // zero if it is not ejected
	Unreachable  error     // why the last connection could not be made; nil if it could, or none was tried
	KeptUntil    time.Time // when it goes at the latest, if it is registered no more; else zero. See etcdsource.Source.Kept
	Trial        bool      // it is back from an ejection and gets few calls until it answers one

	LookupError error // why the last look-up of Name failed, so that Address is of an earlier one; nil if it did not

	Exclusion Exclusion // why it gets no calls, whatever else is known of it; empty if it may get some
	Reason    string    // of the Exclusion, for people
}

// Compare orders IDs: by service and tags, then by source, route and backend.
func (n ID) Compare(o ID) int {
	return cmp.Or(
		cmp.Compare(n.Service, o.Service), cmp.Compare(n.Tags, o.Tags),
		cmp.Compare(n.Source, o.Source), cmp.Compare(n.Route, o.Route), cmp.Compare(n.Backend, o.Backend),
	)
}

// State returns the state of the cluster, without its Routes.
func (c *Cluster) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := State{ID: c.ID, Panic: c.panicked, PanicCalls: c.panics.Load()}
	ejections, prevented := c.ejector.Counts()
	s.Ejections, s.EjectionsPrevented = c.ejections+ejections, c.prevented+prevented
	for _, m := range c.members {
		if m.weight == 0 {
			continue
		}
		s.Endpoints++
		if m.usable && m.unreachable == nil {
			s.Usable++
		}
	}
	return s
}

// unreachable returns the members that are healthy and not ejected, but could not be connected to the last time.
func (c *Cluster) unreachable() (all []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		if m.weight > 0 && m.usable && m.unreachable != nil {
			all = append(all, m.host.Address())
		}
	}
	return all
}

// appendEndpoints appends the states of the cluster's members, and of the endpoints that get no calls.
func (c *Cluster) appendEndpoints(all []EndpointState) []EndpointState {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		s := EndpointState{
			ID: c.ID, Address: m.host.Address(), Name: m.name, Weight: m.weight, Active: m.host.Active(),
			Usable: m.usable && m.unreachable == nil, Healthy: m.check.Healthy, Unreachable: m.unreachable, Trial: m.trial.Load() && !m.ejected(),
		}
		if m.subscription != nil {
			status, _ := c.checker.Status(s.Address, m.checks(c.settings.health))
			s.Checked, s.HealthError = status.Checked, status.Err
		}
		if e := m.ejection.Load(); e != nil {
			s.EjectedUntil = e.Until()
		}
		all = append(all, s)
	}
	for _, b := range c.excluded {
		all = append(all, EndpointState{ID: c.ID, Address: b.address, Name: b.name, Weight: b.weight, Healthy: true, Exclusion: b.as, Reason: b.why()})
	}
	return all
}

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
