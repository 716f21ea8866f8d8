package cluster

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
	"github.com/framegate/framegate/resolver/spec"
)

// Set are the endpoints of all backends of the routes in force, and the registered instances that backends with
// "service:" use. A change of instances reaches calls by a swap in the pickers of the groups that use them; the table
// stays.
type Set struct {
	mu       sync.Mutex // guards all of it
	checker  *health.Checker
	log      *slog.Logger
	tracker  *endpointTracker
	guard    *addressGuard
	rechecks *time.Timer // asks the guard again now and then; nil while it knows of no change by itself
	names    *dns.Names  // nil: names are not looked up here, but by whoever connects
	closed   bool

	recheckEvery time.Duration // replaced in tests

	limits   allLimits
	byKey    map[clusterKey]*Cluster
	policies map[spec.PoolPolicy]*policyUse
	Services map[string]*service
}

// service is the instances of a service, and the groups that they are members of.
type service struct {
	instances []spec.Instance   // sorted by address
	refused   map[string]string // those that the guard refuses, with the reason; nil if there are none
	clusters  map[*Cluster]bool
}

// NewSet returns a set without clusters, which the caller closes.
func NewSet() *Set {
	log := slog.New(slog.DiscardHandler)
	s := &Set{
		checker: health.NewChecker(nil), log: log, guard: newAddressGuard(log), recheckEvery: recheckInterval, limits: allLimits{},
		byKey: map[clusterKey]*Cluster{}, policies: map[spec.PoolPolicy]*policyUse{}, Services: map[string]*service{},
	}
	s.tracker = newEndpointTracker(&s.mu)
	return s
}

// policyUse is a policy of connections that backends of routes in force have. Equal ones have one address.
type policyUse struct {
	policy *spec.PoolPolicy
	refs   int
}

// acquirePolicy returns the policy of a backend's connections, nil for none. Each acquirePolicy has one releasePolicy.
func (s *Set) acquirePolicy(b *spec.Backend) *spec.PoolPolicy {
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

func (s *Set) releasePolicy(p *spec.PoolPolicy) {
	if p == nil {
		return
	}
	u := s.policies[*p]
	if u.refs--; u.refs == 0 {
		delete(s.policies, *p)
		s.tracker.unused = append(s.tracker.unused, p)
	}
}

func (s *Set) service(name string) *service {
	sv := s.Services[name]
	if sv == nil {
		sv = &service{clusters: map[*Cluster]bool{}}
		s.Services[name] = sv
	}
	return sv
}

// acquire returns the group of a route's i-th backend, which it makes if there is none, with what the backend says of it
// in force. Each acquire has one release.
func (s *Set) acquire(route *spec.Route, source string, i int) *Cluster {
	b := &route.Backends[i]
	name, says, user := clusterName(route, source, i), settingsOf(b), userOf(route, source)
	key := name.key(says)
	g := s.byKey[key]
	if g == nil && b.Service != "" {
		if g = s.ownCluster(route, source, name); g != nil {
			delete(s.byKey, name.key(g.settings))
			s.byKey[key] = g
		}
	}
	if g == nil {
		g = newCluster(name, b.Tags, says, s.checker, s.log)
		s.byKey[key] = g
		if b.Service != "" {
			sv := s.service(b.Service)
			sv.clusters[g] = true
			s.setMembers(g, g.selectFrom(sv.instances))
		}
	}
	g.users[user]++
	again := g.settings.dns != says.dns
	g.configure(says)
	if again {
		s.followNames(g)
	}
	if b.Service == "" {
		s.setMembers(g, listed(b.Endpoints))
	}
	return g
}

// ownCluster returns the group of that name, of a service, that nothing but the route uses, and of which its document says
// something else now: what is known of its endpoints stays. It returns nil if there is none, or more than one.
func (s *Set) ownCluster(route *spec.Route, source string, name ID) (own *Cluster) {
	user := userOf(route, source)
	for g := range s.service(name.Service).clusters {
		if g.ID != name || len(g.users) != 1 || g.users[user] == 0 || wants(route, source, g) {
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
func wants(route *spec.Route, source string, g *Cluster) bool {
	for i := range route.Backends {
		if clusterName(route, source, i).key(settingsOf(&route.Backends[i])) == g.key(g.settings) {
			return true
		}
	}
	return false
}

// userOf tells a route of a source from all others.
func userOf(route *spec.Route, source string) string { return source + " " + route.Name }

func clusterName(route *spec.Route, source string, i int) ID {
	b := &route.Backends[i]
	if b.Service == "" {
		return ID{Source: source, Route: route.Name, Backend: b.Key(i)}
	}
	return ID{Service: b.Service, Tags: tagsText(b.Tags)}
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
	if strings.ContainsAny(s, `"=,`) || !spec.Printable(s) {
		return strconv.Quote(s)
	}
	return s
}

// listed returns endpoints with each address once: one that is listed twice has both weights.
func listed(endpoints []spec.Endpoint) []weighted {
	all := make([]weighted, 0, len(endpoints))
	place := make(map[string]int, len(endpoints))
	for _, e := range endpoints {
		if i, ok := place[e.Address]; ok {
			all[i].weight += spec.WeightOf(e.Weight)
			continue
		}
		place[e.Address] = len(all)
		all = append(all, weighted{address: e.Address, weight: spec.WeightOf(e.Weight)})
	}
	return all
}

// release ends one use of a group by a route; see userOf.
func (s *Set) release(g *Cluster, user string) {
	if g.users[user]--; g.users[user] == 0 {
		delete(g.users, user)
	}
	if len(g.users) > 0 {
		return
	}
	delete(s.byKey, g.key(g.settings))
	if name := g.Service; name != "" {
		delete(s.Services[name].clusters, g)
		s.forgetEmpty(name)
	}
	g.forgetNames()
	s.tracker.gone(g.close())
}

func (s *Set) forgetEmpty(name string) {
	if sv := s.Services[name]; len(sv.instances) == 0 && len(sv.clusters) == 0 {
		delete(s.Services, name)
	}
}

// setInstances replaces the instances of a service, which it takes over.
func (s *Set) setInstances(name string, instances []spec.Instance) {
	sv := s.service(name)
	sv.instances = instances
	s.refuse(name, sv)
	for g := range sv.clusters {
		s.setMembers(g, g.selectFrom(instances))
	}
	s.forgetEmpty(name)
}

// selectFrom returns the instances that a service's group is of.
func (g *Cluster) selectFrom(instances []spec.Instance) []weighted {
	all := make([]weighted, 0, len(instances))
	for _, in := range instances {
		if hasTags(in, g.tags) {
			all = append(all, weighted{address: in.Address, weight: in.Weight})
		}
	}
	return all
}

func hasTags(in spec.Instance, tags map[string]string) bool {
	for k, v := range tags {
		if got, ok := in.Tags[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// close ends all that runs for the groups, but the checker. Nothing may be acquired or changed afterwards.
func (s *Set) close() {
	s.closed = true
	if s.rechecks != nil {
		s.rechecks.Stop()
	}
	s.tracker.close()
	for _, g := range s.byKey {
		g.close()
	}
}
