package admin

import (
	"context"
	"time"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/resolver"
)

// Control is what the admin server shows and changes. Its functions may be called by several goroutines at once; any may
// be nil, and what needs it is then answered with 501.
type Control struct {
	Routes    func() []resolver.RouteStatus // of every source
	Source    func() resolver.SourceStatus  // of etcd
	Schemas   func() []resolver.SchemaStatus
	Instances func() map[string][]resolver.Instance
	Kept      func() []resolver.KeptInstance      // see resolver.EtcdSource.Kept; nil: none are
	Refused   func() map[string]map[string]string // see resolver.Resolver.Refused; nil: none are
	Endpoints func() []EndpointStatus             // what is open, by endpoint
	Groups    func() ([]resolver.GroupState, []resolver.EndpointState)
	Config    func() ([]byte, error) // the configuration in JSON, secrets hidden
	Drain     func() DrainStatus     // makes the process drain and end; more than once is like once

	// Explain says which route a call gets and why, and where it would go now: false if no route matches. A change of the
	// routes in between may make the two differ.
	Explain func(resolver.Request) (resolver.Explanation, resolver.Target, bool)

	// Bypasses says which a route would be part of beside those in force.
	Bypasses func(*resolver.Route) []resolver.Bypass

	// UnreachableHealth says which match entries of a route get no health checks here.
	UnreachableHealth func(*resolver.Route) []resolver.Unreachable

	// Watch shows messages of live calls; see handler.Proxy.Watch.
	Watch func(pattern resolver.Pattern, perSecond int, where string) (*handler.Watcher, error)

	// RouteStore and ServiceStore return where changes go, or why they cannot be made now: ErrNoEtcd if never.
	RouteStore   func() (*resolver.RouteStore, error)
	ServiceStore func() (ServiceStore, error)
}

// ServiceStore writes the registered instances of services; see resolver.ServiceStore.
type ServiceStore interface {
	Heartbeat(ctx context.Context, service string, in resolver.Instance, ttl time.Duration) (resolver.Heartbeat, error)
	Deregister(ctx context.Context, service, address string) (bool, error)
}

func (s *Server) routeStore() (*resolver.RouteStore, error) {
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
