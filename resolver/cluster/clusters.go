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

// Set has the clusters of all backends of the routes in force, and the registered instances of all services. A change of
// instances swaps the choices in the pickers of the clusters concerned; the table of routes stays as it is.
type Set struct {
	mu       sync.Mutex // guards all of it
	checker  *health.Checker
	log      *slog.Logger
	tracker  *endpointTracker
	guard    *addressGuard
	rechecks *time.Timer // runs recheckLater's checks; nil while the guard's answers cannot change by themselves
	names    *dns.Names  // nil: a host name is one endpoint, which the connection's dialer looks up
	closed   bool

	recheckEvery time.Duration // replaced in tests

	limits   allLimits
	byKey    map[clusterKey]*Cluster
	policies map[policy.Policy]*policyUse
	services map[string]*service
}

// service has the instances of a service, and the clusters that have them as members.
type service struct {
	instances []spec.Instance   // sorted by address
	refused   map[string]string // the reason by address, of instances that the guard refuses; nil if there are none
	clusters  map[*Cluster]bool
}

// NewSet returns a set without clusters, which the caller closes.
func NewSet() *Set {
	log := slog.New(slog.DiscardHandler)
	s := &Set{
		checker: health.NewChecker(nil), log: log, guard: newAddressGuard(log), recheckEvery: recheckInterval, limits: allLimits{},
		byKey: map[clusterKey]*Cluster{}, policies: map[policy.Policy]*policyUse{}, services: map[string]*service{},
	}
	s.tracker = newEndpointTracker(&s.mu)
	return s
}

// policyUse is a policy of connections that backends of routes in force have. Equal policies share one, so that the pool can
// compare them by address.
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
	sv := s.services[name]
	if sv == nil {
		sv = &service{clusters: map[*Cluster]bool{}}
		s.services[name] = sv
	}
	return sv
}

// acquire returns the cluster of a backend of a route, configured as the backend's document says. It makes the cluster if
// there is none. Each acquire has one release.
func (s *Set) acquire(route *spec.Route, source string, b spec.KeyedBackend) *Cluster {
	name, says, user := clusterName(route, source, b), settingsOf(b.Backend), userOf(route, source)
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
			s.setMembers(c, withTags(sv.instances, c.tags))
		}
	}
	c.users[user]++
	dnsChanged := c.settings.dns != says.dns
	c.configure(says)
	if dnsChanged {
		s.followNames(c)
	}
	if b.Service == "" {
		s.setMembers(c, listed(b.Endpoints))
	}
	return c
}

// ownCluster returns a service's cluster with that ID that only this route uses, and whose settings are not those of any
// backend in the route's new document. It can be given other settings, so that what is known of its endpoints stays. It
// returns nil if there is no such cluster, or more than one.
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

// wants reports whether a backend of the route uses the cluster with its present settings.
func wants(route *spec.Route, source string, c *Cluster) bool {
	for _, b := range route.EveryBackend() {
		if clusterName(route, source, b).key(settingsOf(b.Backend)) == c.key(c.settings) {
			return true
		}
	}
	return false
}

// userOf returns a text that tells a route of a source from all others.
func userOf(route *spec.Route, source string) string { return source + " " + route.Name }

// clusterName returns the ID of the cluster of a backend of a route.
func clusterName(route *spec.Route, source string, b spec.KeyedBackend) ID {
	if b.Service == "" {
		return ID{Source: source, Route: route.Name, Backend: b.Key}
	}
	return ID{Service: b.Service, Tags: tagsText(b.Tags)}
}

// tagsText returns tags as a=b,c=d, sorted and quoted where needed. Different tags have different texts.
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
		all = append(all, weighted{address: e.Address, weight: spec.WeightOf(e.Weight), node: e.Tags[spec.TagNode]})
	}
	return all
}

// release ends one use of a cluster by a route, and closes the cluster if it was the last; user is userOf the route.
func (s *Set) release(c *Cluster, user string) {
	if c.users[user]--; c.users[user] == 0 {
		delete(c.users, user)
	}
	if len(c.users) > 0 {
		return
	}
	delete(s.byKey, c.key(c.settings))
	if name := c.Service; name != "" {
		delete(s.services[name].clusters, c)
		s.forgetEmpty(name)
	}
	c.forgetNames()
	s.tracker.gone(c.close())
}

// forgetEmpty forgets a service that has neither instances nor clusters.
func (s *Set) forgetEmpty(name string) {
	if sv := s.services[name]; len(sv.instances) == 0 && len(sv.clusters) == 0 {
		delete(s.services, name)
	}
}

// setInstances replaces the instances of a service. The caller must not change them afterwards.
func (s *Set) setInstances(name string, instances []spec.Instance) {
	sv := s.service(name)
	sv.instances = instances
	s.refuse(name, sv)
	for c := range sv.clusters {
		s.setMembers(c, withTags(instances, c.tags))
	}
	s.forgetEmpty(name)
}

// withTags returns those of a service's instances that have the tags of a cluster.
func withTags(instances []spec.Instance, tags map[string]string) []weighted {
	all := make([]weighted, 0, len(instances))
	for _, in := range instances {
		if hasTags(in, tags) {
			all = append(all, weighted{address: in.Address, weight: in.Weight, node: in.Tags[spec.TagNode]})
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

// close ends the clusters' checks and timers, but not the checker itself. Nothing may be acquired or changed afterwards.
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
