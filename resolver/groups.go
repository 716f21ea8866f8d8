package resolver

import (
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/framegate/framegate/resolver/dns"
	"github.com/framegate/framegate/resolver/health"
)

// groups are the endpoints of all backends of the routes in force, and the registered instances that backends with
// "service:" use. A change of instances reaches calls by a swap in the pickers of the groups that use them; the table
// stays.
type groups struct {
	mu       sync.Mutex // guards all of it
	checker  *health.Checker
	log      *slog.Logger
	presence *presence
	guard    *addressGuard
	rechecks *time.Timer // asks the guard again now and then; nil while it knows of no change by itself
	names    *dns.Names  // nil: names are not looked up here, but by whoever connects
	closed   bool

	recheckEvery time.Duration // replaced in tests

	standings standings
	byKey     map[groupKey]*group
	policies  map[PoolPolicy]*policyUse
	services  map[string]*service
}

// service is the instances of a service, and the groups that they are members of.
type service struct {
	instances []Instance        // sorted by address
	refused   map[string]string // those that the guard refuses, with the reason; nil if there are none
	groups    map[*group]bool
}

// NewSet returns a set without clusters, which the caller closes.
func NewSet() *groups {
	log := slog.New(slog.DiscardHandler)
	s := &groups{
		checker: health.NewChecker(nil), log: log, guard: newAddressGuard(log), recheckEvery: recheckInterval, standings: standings{},
		byKey: map[groupKey]*group{}, policies: map[PoolPolicy]*policyUse{}, services: map[string]*service{},
	}
	s.presence = newPresence(&s.mu)
	return s
}

// policyUse is a policy of connections that backends of routes in force have. Equal ones have one address.
type policyUse struct {
	policy *PoolPolicy
	refs   int
}

// acquirePolicy returns the policy of a backend's connections, nil for none. Each acquirePolicy has one releasePolicy.
func (s *groups) acquirePolicy(b *Backend) *PoolPolicy {
	if b.Pool == nil {
		return nil
	}
	u := s.policies[*b.Pool]
	if u == nil {
		u = &policyUse{policy: b.Pool}
		s.policies[*b.Pool] = u
	}
	u.refs++
	return u.policy
}

func (s *groups) releasePolicy(p *PoolPolicy) {
	if p == nil {
		return
	}
	u := s.policies[*p]
	if u.refs--; u.refs == 0 {
		delete(s.policies, *p)
		s.presence.unused = append(s.presence.unused, p)
	}
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
	name, says, user := groupName(route, source, i), specOf(b), userOf(route, source)
	key := name.key(says)
	g := s.byKey[key]
	if g == nil && b.Service != "" {
		if g = s.ownGroup(route, source, name); g != nil {
			delete(s.byKey, name.key(g.spec))
			s.byKey[key] = g
		}
	}
	if g == nil {
		g = newGroup(name, b.Tags, says, s.checker, s.log)
		s.byKey[key] = g
		if b.Service != "" {
			sv := s.service(b.Service)
			sv.groups[g] = true
			s.setMembers(g, g.selectFrom(sv.instances))
		}
	}
	g.users[user]++
	again := g.spec.dns != says.dns
	g.configure(says)
	if again {
		s.followNames(g)
	}
	if b.Service == "" {
		s.setMembers(g, listed(b.Endpoints))
	}
	return g
}

// ownGroup returns the group of that name, of a service, that nothing but the route uses, and of which its document says
// something else now: what is known of its endpoints stays. It returns nil if there is none, or more than one.
func (s *groups) ownGroup(route *Route, source string, name GroupName) (own *group) {
	user := userOf(route, source)
	for g := range s.service(name.Service).groups {
		if g.GroupName != name || len(g.users) != 1 || g.users[user] == 0 || wants(route, source, g) {
			continue
		}
		if own != nil {
			return nil
		}
		own = g
	}
	return own
}

// wants reports whether a backend of the route has the group as it is.
func wants(route *Route, source string, g *group) bool {
	for i := range route.Backends {
		if groupName(route, source, i).key(specOf(&route.Backends[i])) == g.key(g.spec) {
			return true
		}
	}
	return false
}

// userOf tells a route of a source from all others.
func userOf(route *Route, source string) string { return source + " " + route.Name }

func groupName(route *Route, source string, i int) GroupName {
	b := &route.Backends[i]
	if b.Service == "" {
		return GroupName{Source: source, Route: route.Name, Backend: b.key(i)}
	}
	return GroupName{Service: b.Service, Tags: tagsText(b.Tags)}
}

// tagsText is different for tags that are different.
func tagsText(tags map[string]string) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		all = append(all, tagText(k)+"="+tagText(tags[k]))
	}
	return strings.Join(all, ",")
}

func tagText(s string) string {
	if strings.ContainsAny(s, `"=,`) || !printable(s) {
		return strconv.Quote(s)
	}
	return s
}

// listed returns endpoints with each address once: one that is listed twice has both weights.
func listed(endpoints []Endpoint) []weighted {
	all := make([]weighted, 0, len(endpoints))
	place := make(map[string]int, len(endpoints))
	for _, e := range endpoints {
		if i, ok := place[e.Address]; ok {
			all[i].weight += weightOf(e.Weight)
			continue
		}
		place[e.Address] = len(all)
		all = append(all, weighted{address: e.Address, weight: weightOf(e.Weight)})
	}
	return all
}

// release ends one use of a group by a route; see userOf.
func (s *groups) release(g *group, user string) {
	if g.users[user]--; g.users[user] == 0 {
		delete(g.users, user)
	}
	if len(g.users) > 0 {
		return
	}
	delete(s.byKey, g.key(g.spec))
	if name := g.Service; name != "" {
		delete(s.services[name].groups, g)
		s.forgetEmpty(name)
	}
	g.forgetNames()
	s.presence.gone(g.close())
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
	s.refuse(name, sv)
	for g := range sv.groups {
		s.setMembers(g, g.selectFrom(instances))
	}
	s.forgetEmpty(name)
}

// selectFrom returns the instances that a service's group is of.
func (g *group) selectFrom(instances []Instance) []weighted {
	all := make([]weighted, 0, len(instances))
	for _, in := range instances {
		if hasTags(in, g.tags) {
			all = append(all, weighted{address: in.Address, weight: in.Weight})
		}
	}
	return all
}

func hasTags(in Instance, tags map[string]string) bool {
	for k, v := range tags {
		if got, ok := in.Tags[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// close ends all that runs for the groups, but the checker. Nothing may be acquired or changed afterwards.
func (s *groups) close() {
	s.closed = true
	if s.rechecks != nil {
		s.rechecks.Stop()
	}
	s.presence.close()
	for _, g := range s.byKey {
		g.close()
	}
}
