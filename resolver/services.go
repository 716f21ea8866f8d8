package resolver

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
)

// services are the registered instances that backends with "service:" use. A change of a service's instances reaches
// the backends that use it by a swap of their endpoints; the table stays. The lock of the Resolver guards all of it;
// only endpoints are read without.
type services struct {
	byName map[string]*service
}

type service struct {
	instances []Instance // sorted by address
	groups    map[string]*group
}

// group is the selection of a service's instances that has some tags.
type group struct {
	tags      map[string]string
	endpoints endpoints
}

// endpoints is where a balancer finds the endpoints of a backend as they are now.
type endpoints struct {
	atomic.Pointer[endpointSet]
}

func newServices() *services { return &services{byName: map[string]*service{}} }

func (s *services) service(name string) *service {
	sv := s.byName[name]
	if sv == nil {
		sv = &service{groups: map[string]*group{}}
		s.byName[name] = sv
	}
	return sv
}

// endpointsOf returns the place of a backend's endpoints.
func (s *services) endpointsOf(b Backend) *endpoints {
	if b.Service == "" {
		set := &endpointSet{}
		for _, e := range b.Endpoints {
			set.add(e.Address, weightOf(e.Weight))
		}
		e := &endpoints{}
		e.Store(set)
		return e
	}
	sv, key := s.service(b.Service), tagsKey(b.Tags)
	g := sv.groups[key]
	if g == nil {
		g = &group{tags: b.Tags}
		g.endpoints.Store(g.selectFrom(sv.instances))
		sv.groups[key] = g
	}
	return &g.endpoints
}

func tagsKey(tags map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		fmt.Fprintf(&b, "%q=%q,", k, tags[k])
	}
	return b.String()
}

// set replaces the instances of a service, which it takes over.
func (s *services) set(name string, instances []Instance) {
	sv := s.service(name)
	sv.instances = instances
	for _, g := range sv.groups {
		g.endpoints.Store(g.selectFrom(instances))
	}
	if len(instances) == 0 && len(sv.groups) == 0 {
		delete(s.byName, name)
	}
}

// forgetUnused drops the groups that no backend of the routes in force uses.
func (s *services) forgetUnused(entries []*entry) {
	used := map[string]map[string]bool{}
	for _, e := range entries {
		for _, b := range e.route.Backends {
			if b.Service != "" {
				if used[b.Service] == nil {
					used[b.Service] = map[string]bool{}
				}
				used[b.Service][tagsKey(b.Tags)] = true
			}
		}
	}
	for name, sv := range s.byName {
		for key := range sv.groups {
			if !used[name][key] {
				delete(sv.groups, key)
			}
		}
		if len(sv.instances) == 0 && len(sv.groups) == 0 {
			delete(s.byName, name)
		}
	}
}

func (g *group) selectFrom(instances []Instance) *endpointSet {
	set := &endpointSet{}
	for _, in := range instances {
		if g.wants(in) {
			set.add(in.Address, in.Weight)
		}
	}
	return set
}

func (g *group) wants(in Instance) bool {
	for k, v := range g.tags {
		if got, ok := in.Tags[k]; !ok || got != v {
			return false
		}
	}
	return true
}
