package resolver

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/framegate/framegate/resolver/eject"
	"github.com/framegate/framegate/resolver/health"
)

// groups are the endpoints of all backends of the routes in force, and the registered instances that backends with
// "service:" use. A change of instances reaches calls by a swap in the pickers of the groups that use them; the table
// stays. The lock of the Resolver guards all of it.
type groups struct {
	checker    *health.Checker
	mu         *sync.Mutex // the Resolver's
	departures Departures

	byKey    map[string]*group
	policies map[PoolPolicy]*PoolPolicy // that routes have or had: each has one address for good
	services map[string]*service
	leaving  map[string]*time.Timer // by address that has left not long ago
	present  map[string]int         // groups that an address is an endpoint of
	left     []string               // addresses that have left and are not told yet
}

type service struct {
	instances []Instance // sorted by address
	groups    map[*group]bool
}

// Departures hears of endpoints that leave. Its functions are called without locks; they may come late, or beside each
// other.
type Departures struct {
	Left  func(address string) // the address is no endpoint of any backend any more
	Grace time.Duration
	Over  func(address string) // Grace after Left, unless it came back
}

func newGroups(mu *sync.Mutex, checker *health.Checker) *groups {
	return &groups{
		mu: mu, checker: checker, byKey: map[string]*group{}, policies: map[PoolPolicy]*PoolPolicy{}, services: map[string]*service{},
		leaving: map[string]*time.Timer{}, present: map[string]int{},
	}
}

// policyOf returns the policy of a backend's connections, nil for none.
func (s *groups) policyOf(b *Backend) *PoolPolicy {
	if b.Pool == nil {
		return nil
	}
	p := s.policies[*b.Pool]
	if p == nil {
		p = b.Pool
		s.policies[*p] = p
	}
	return p
}

func (s *groups) service(name string) *service {
	sv := s.services[name]
	if sv == nil {
		sv = &service{groups: map[*group]bool{}}
		s.services[name] = sv
	}
	return sv
}

// acquire returns the group of a route's i-th backend, which it makes if there is none, with what the backend says of it
// in force. Each acquire has one release.
func (s *groups) acquire(route *Route, source string, i int) *group {
	b := &route.Backends[i]
	key := groupKey(route, source, i)
	g := s.byKey[key]
	if g == nil {
		g = newGroup(s.checker)
		g.key, g.name = key, groupName(route, source, i)
		s.byKey[key] = g
	}
	g.refs++
	g.configure(specOf(b))
	if b.Service != "" {
		sv := s.service(b.Service)
		if !sv.groups[g] {
			sv.groups[g] = true
			s.setMembers(g, g.spec.selectFrom(sv.instances))
		}
		return g
	}
	s.setMembers(g, fixed(b.Endpoints))
	return g
}

// fixed returns endpoints with each address once: one that is given twice has both weights.
func fixed(endpoints []Endpoint) []weighted {
	all := make([]weighted, 0, len(endpoints))
	place := make(map[string]int, len(endpoints))
	for _, e := range endpoints {
		if i, ok := place[e.Address]; ok {
			all[i].weight += weightOf(e.Weight)
			continue
		}
		place[e.Address] = len(all)
		all = append(all, weighted{e.Address, weightOf(e.Weight)})
	}
	return all
}

// groupKey is the same for backends that share a group.
func groupKey(route *Route, source string, i int) string {
	b := &route.Backends[i]
	if b.Service == "" {
		return fmt.Sprintf("route %s %s %s", source, route.Name, b.key(i))
	}
	var policy struct {
		Health  *health.Config
		Eject   *eject.Config
		PanicAt *int
	}
	policy.Health, policy.Eject, policy.PanicAt = b.Health, b.Ejection, b.PanicPercent
	text, _ := yaml.Marshal(policy) // cannot fail: plain values
	return fmt.Sprintf("service %s %s %s", b.Service, tagsKey(b.Tags), text)
}

func groupName(route *Route, source string, i int) GroupName {
	b := &route.Backends[i]
	if b.Service == "" {
		return GroupName{Source: source, Route: route.Name, Backend: b.key(i)}
	}
	var tags []string
	for _, k := range slices.Sorted(maps.Keys(b.Tags)) {
		tags = append(tags, k+"="+b.Tags[k])
	}
	return GroupName{Service: b.Service, Tags: strings.Join(tags, ",")}
}

func specOf(b *Backend) spec {
	s := spec{service: b.Service, tags: b.Tags, health: b.Health, panicAt: defaultPanicPercent}
	if b.Ejection != nil {
		s.eject = *b.Ejection
	}
	if b.PanicPercent != nil {
		s.panicAt = *b.PanicPercent
	}
	return s
}

func tagsKey(tags map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		fmt.Fprintf(&b, "%q=%q,", k, tags[k])
	}
	return b.String()
}

func (s *groups) release(g *group) {
	if g.refs--; g.refs > 0 {
		return
	}
	delete(s.byKey, g.key)
	if name := g.spec.service; name != "" {
		sv := s.services[name]
		delete(sv.groups, g)
		s.forgetEmpty(name)
	}
	s.leave(g.close())
}

func (s *groups) forgetEmpty(name string) {
	if sv := s.services[name]; len(sv.instances) == 0 && len(sv.groups) == 0 {
		delete(s.services, name)
	}
}

// setInstances replaces the instances of a service, which it takes over.
func (s *groups) setInstances(name string, instances []Instance) {
	sv := s.service(name)
	sv.instances = instances
	for g := range sv.groups {
		s.setMembers(g, g.spec.selectFrom(instances))
	}
	s.forgetEmpty(name)
}

// selectFrom returns the instances that a group is of.
func (sp spec) selectFrom(instances []Instance) (all []weighted) {
	for _, in := range instances {
		if sp.wants(in) {
			all = append(all, weighted{in.Address, in.Weight})
		}
	}
	return all
}

func (sp spec) wants(in Instance) bool {
	for k, v := range sp.tags {
		if got, ok := in.Tags[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// setMembers gives a group its endpoints, and hears which came and went.
func (s *groups) setMembers(g *group, all []weighted) {
	came, gone := g.setMembers(all)
	for _, address := range came {
		s.present[address]++
		if t := s.leaving[address]; t != nil {
			t.Stop()
			delete(s.leaving, address)
		}
	}
	s.leave(gone)
}

// leave notes that a group has some endpoints no more.
func (s *groups) leave(addresses []string) {
	for _, address := range addresses {
		if s.present[address]--; s.present[address] == 0 {
			delete(s.present, address)
			s.left = append(s.left, address)
		}
	}
}

// unlock unlocks the Resolver's mu, and tells which endpoints have left.
func (s *groups) unlock() {
	left, d := s.left, s.departures
	s.left = nil
	if d.Left == nil {
		left = nil
	}
	for _, address := range left {
		var t *time.Timer
		t = time.AfterFunc(d.Grace, func() {
			s.mu.Lock()
			over := s.leaving[address] == t
			if over {
				delete(s.leaving, address)
			}
			s.mu.Unlock()
			if over {
				d.Over(address)
			}
		})
		s.leaving[address] = t
	}
	s.mu.Unlock()
	for _, address := range left {
		d.Left(address)
	}
}

// close ends all that runs for the groups.
func (s *groups) close() {
	for _, t := range s.leaving {
		t.Stop()
	}
	clear(s.leaving)
	for _, g := range s.byKey {
		g.close()
	}
}
