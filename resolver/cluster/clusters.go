package cluster

import (
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/resolver/dns"
	"github.com/framegate/framegate/resolver/health"
	"github.com/framegate/framegate/resolver/spec"
)

// Set are the endpoints of all backends of the routes in force, and the registered instances that backends with
// "service:" use. A change of instances reaches calls by a swap in the pickers of the clusters that use them; the table
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
	policies map[policy.Policy]*policyUse
	Services map[string]*service
}

// service is the instances of a service, and the clusters that they are members of.
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
		byKey: map[clusterKey]*Cluster{}, policies: map[policy.Policy]*policyUse{}, Services: map[string]*service{},
	}
	s.tracker = newEndpointTracker(&s.mu)
	return s
}

// policyUse is a policy of connections that backends of routes in force have. Equal ones have one address.
type policyUse struct {
	policy *policy.Policy
	refs   int
}

// acquirePolicy returns the policy of a backend's connections, nil for none. Each acquirePolicy has one releasePolicy.
func (s *Set) acquirePolicy(b *spec.Backend) *policy.Policy {
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

func (s *Set) releasePolicy(p *policy.Policy) {
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

// acquire returns the cluster of a route's i-th backend, which it makes if there is none, with what the backend says of it
// in force. Each acquire has one release.
func (s *Set) acquire(route *spec.Route, source string, i int) *Cluster {
	b := &route.Backends[i]
	name, says, user := clusterName(route, source, i), settingsOf(b), userOf(route, source)
	key := name.key(says)
	c := s.byKey[key]
	if c == nil && b.Service != "" {
		if c = s.ownCluster(route, source, name); c != nil {
			delete(s.byKey, name.key(c.settings))
			s.byKey[key] = c
		}
	}
	if c == nil {
		c = newCluster(name, b.Tags, says, s.checker, s.log)
		s.byKey[key] = c
		if b.Service != "" {
			sv := s.service(b.Service)
			sv.clusters[c] = true
			s.setMembers(c, c.selectFrom(sv.instances))
		}
	}
	c.users[user]++
	again := c.settings.dns != says.dns
	c.configure(says)
	if again {
		s.followNames(c)
	}
	if b.Service == "" {
		s.setMembers(c, listed(b.Endpoints))
	}
	return c
}

// ownCluster returns the cluster of that name, of a service, that nothing but the route uses, and of which its document says
// something else now: what is known of its endpoints stays. It returns nil if there is none, or more than one.
func (s *Set) ownCluster(route *spec.Route, source string, name ID) (own *Cluster) {
	user := userOf(route, source)
	for c := range s.service(name.Service).clusters {
		if c.ID != name || len(c.users) != 1 || c.users[user] == 0 || wants(route, source, c) {
			continue
		}
		if own != nil {
			return nil
		}
		own = c
	}
	return own
}

// wants reports whether a backend of the route has the cluster as it is.
func wants(route *spec.Route, source string, c *Cluster) bool {
	for i := range route.Backends {
		if clusterName(route, source, i).key(settingsOf(&route.Backends[i])) == c.key(c.settings) {
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

// release ends one use of a cluster by a route; see userOf.
func (s *Set) release(c *Cluster, user string) {
	if c.users[user]--; c.users[user] == 0 {
		delete(c.users, user)
	}
	if len(c.users) > 0 {
		return
	}
	delete(s.byKey, c.key(c.settings))
	if name := c.Service; name != "" {
		delete(s.Services[name].clusters, c)
		s.forgetEmpty(name)
	}
	c.forgetNames()
	s.tracker.gone(c.close())
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
	for c := range sv.clusters {
		s.setMembers(c, c.selectFrom(instances))
	}
	s.forgetEmpty(name)
}

// selectFrom returns the instances that a service's cluster is of.
func (c *Cluster) selectFrom(instances []spec.Instance) []weighted {
	all := make([]weighted, 0, len(instances))
	for _, in := range instances {
		if hasTags(in, c.tags) {
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

// close ends all that runs for the clusters, but the checker. Nothing may be acquired or changed afterwards.
func (s *Set) close() {
	s.closed = true
	if s.rechecks != nil {
		s.rechecks.Stop()
	}
	s.tracker.close()
	for _, c := range s.byKey {
		c.close()
	}
}
