package admin

import (
	"context"
	"time"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/mirror"
	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/etcdsource"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
)

// Control connects the admin server to the framegate that it shows and changes. Its functions are called by several
// goroutines at once. Any may be nil: a request that needs it is then answered with 501.
type Control struct {
	Routes    func() []resolver.RouteStatus // of every source
	Source    func() resolver.SourceStatus  // of etcd
	Schemas   func() []resolver.SchemaStatus
	Instances func() map[string][]spec.Instance
	Kept      func() []etcdsource.KeptInstance    // see etcdsource.Source.Kept; a nil func means none
	Refused   func() map[string]map[string]string // see resolver.Resolver.Refused; a nil func means none
	Endpoints func() []EndpointStatus             // connections and streams, by endpoint
	Clusters  func() ([]cluster.State, []cluster.EndpointState)
	Config    func() ([]byte, error)  // the configuration in JSON, secrets hidden
	Mirrors   func() []*mirror.Mirror // of the routes in force
	Drain     func() DrainStatus      // makes the process drain and exit; further calls only return the progress

	// Explain returns which route a call gets and why, and the target it would go to now; false if no route matches. The two
	// may differ if the routes change in between.
	Explain func(spec.Request) (resolver.Explanation, cluster.Target, bool)

	// Bypasses returns the bypasses that a route would be part of, once put beside the routes in force; see match.Bypass.
	Bypasses func(*spec.Route) []match.Bypass

	// UnreachableHealth returns the match entries of a route that get no health checks, because listeners of this framegate
	// answer those with its builtin health service.
	UnreachableHealth func(*spec.Route) []match.Unreachable

	// Tap opens a tap on the messages of live calls; see handler.Proxy.OpenTap.
	Tap func(pattern spec.Pattern, perSecond int, where string) (*handler.TapSession, error)

	// RouteStore and ServiceStore return the store for changes. The error says why no change can be made now; it is ErrNoEtcd
	// if none ever can.
	RouteStore   func() (*etcdstore.Routes, error)
	ServiceStore func() (ServiceStore, error)
}

// ServiceStore writes the registered instances of services; see etcdstore.Services.
type ServiceStore interface {
	Heartbeat(ctx context.Context, service string, in spec.Instance, ttl time.Duration) (etcdstore.Heartbeat, error)
	Deregister(ctx context.Context, service, address string) (bool, error)
}

// storeOf returns the store that get returns, which is Control.RouteStore or Control.ServiceStore and may be nil. The error is
// a problem.
func storeOf[S any](get func() (S, error)) (store S, err error) {
	if get == nil {
		return store, noStore(ErrNoEtcd)
	}
	if store, err = get(); err != nil {
		return store, noStore(err)
	}
	return store, nil
}
