package admin

import (
	"context"
	"time"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/etcdsource"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
)

// Control is what the admin server shows and changes. Its functions may be called by several goroutines at once; any may
// be nil, and what needs it is then answered with 501.
type Control struct {
	Routes    func() []resolver.RouteStatus // of every source
	Source    func() resolver.SourceStatus  // of etcd
	Schemas   func() []resolver.SchemaStatus
	Instances func() map[string][]spec.Instance
	Kept      func() []etcdsource.KeptInstance    // see etcdsource.Source.Kept; nil: none are
	Refused   func() map[string]map[string]string // see resolver.Resolver.Refused; nil: none are
	Endpoints func() []EndpointStatus             // what is open, by endpoint
	Groups    func() ([]cluster.State, []cluster.EndpointState)
	Config    func() ([]byte, error) // the configuration in JSON, secrets hidden
	Drain     func() DrainStatus     // makes the process drain and end; more than once is like once

	// Explain says which route a call gets and why, and where it would go now: false if no route matches. A change of the
	// routes in between may make the two differ.
	Explain func(spec.Request) (resolver.Explanation, cluster.Target, bool)

	// Bypasses says which a route would be part of beside those in force.
	Bypasses func(*spec.Route) []match.Bypass

	// UnreachableHealth says which match entries of a route get no health checks here.
	UnreachableHealth func(*spec.Route) []match.Unreachable

	// Watch shows messages of live calls; see handler.Proxy.Watch.
	Watch func(pattern spec.Pattern, perSecond int, where string) (*handler.Watcher, error)

	// RouteStore and ServiceStore return where changes go, or why they cannot be made now: ErrNoEtcd if never.
	RouteStore   func() (*etcdstore.Routes, error)
	ServiceStore func() (ServiceStore, error)
}

// ServiceStore writes the registered instances of services; see etcdstore.Services.
type ServiceStore interface {
	Heartbeat(ctx context.Context, service string, in spec.Instance, ttl time.Duration) (etcdstore.Heartbeat, error)
	Deregister(ctx context.Context, service, address string) (bool, error)
}

func (s *Server) routeStore() (*etcdstore.Routes, error) {
	if s.cfg.Control.RouteStore == nil {
		return nil, noStore(ErrNoEtcd)
	}
	store, err := s.cfg.Control.RouteStore()
	if err != nil {
		return nil, noStore(err)
	}
	return store, nil
}

func (s *Server) serviceStore() (ServiceStore, error) {
	if s.cfg.Control.ServiceStore == nil {
		return nil, noStore(ErrNoEtcd)
	}
	store, err := s.cfg.Control.ServiceStore()
	if err != nil {
		return nil, noStore(err)
	}
	return store, nil
}
