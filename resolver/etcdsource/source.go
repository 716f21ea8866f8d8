package etcdsource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/spec"
)

// Name is the name under which Source applies its routes.
const Name = "etcd"

// Config says what a Source follows.
type Config struct {
	Client        etcdclient.Config
	Prefix        string        // what framegate's own keys start with
	ServicePrefix string        // what the keys of registered instances start with
	Snapshot      string        // file that keeps the last good state for a start without etcd; empty for none
	KeepOnLoss    time.Duration // how long instances that vanished through no doing of their own are kept at most; 0 for never
	Compile       resolver.Compiler
}

const (
	connectRetry = time.Second // between tries to become a client of an etcd with users, which must answer for that
	reachTimeout = time.Second // for etcd to answer at the start, before a snapshot is used
	saveDelay    = time.Second // between a change and its snapshot, so that many changes make one
	saveInterval = 10 * time.Minute
	tellDelay    = time.Second // for the other half of a change to come, at most, before a refusal is told; half of it at least
	saveShare    = 50          // the time between two snapshots is at least so many times what one takes
)

// Source keeps the routes and the registered instances in etcd in force. While etcd cannot be reached both stay as
// they are; a process that starts without etcd takes them from the snapshot of an earlier one.
type Source struct {
	// set once
	cfg       Config
	resolver  *resolver.Resolver
	log       *slog.Logger
	outage    *outage
	schemas   *follower[*schema.Schema]
	routes    *follower[*spec.Route]
	instances *follower[spec.Instance]
	bindings  *bindings
	waiting   *waitingRoutes
	keeper    *keeper
	ready     chan struct{} // closed by Run when routes and instances are in force
	changed   chan struct{} // has room for one; filled when a snapshot is due

	client    atomic.Pointer[clientv3.Client]
	written   atomic.Int64 // when the snapshot was last written, Unix time in nanoseconds; 0 for never
	unwritten atomic.Int64 // times that it could not be written
	standIn   *standIn
}

// New returns a source with valid prefixes. It does nothing before Run.
func New(cfg Config, r *resolver.Resolver, log *slog.Logger) *Source {
	s := &Source{
		cfg: cfg, resolver: r, log: log, outage: newOutage(log, strings.Join(cfg.Client.Endpoints, ",")),
		ready: make(chan struct{}), changed: make(chan struct{}, 1),
	}
	s.cfg.Client.Silent = s.outage.memberSilent
	s.standIn = newStandIn(cfg, log)
	s.bindings = newBindings(cfg.Compile, func(gone, added []*resolver.Route) { r.Update(Name, gone, added) }, log)
	s.waiting = newWaitingRoutes(r, s.bindings.setRoutes)
	s.schemas = newFollower[*schema.Schema]("schemas", etcdstore.SchemaKeys(cfg.Prefix), s.outage, log)
	s.schemas.parse = etcdstore.ParseSchema
	s.schemas.apply = s.applySchemas
	s.schemas.standIn = s.standIn
	s.schemas.part = func(snap *snapshot) snapshotPart { return snap.Schemas }
	s.routes = newFollower[*spec.Route]("routes", etcdstore.RouteKeys(cfg.Prefix), s.outage, log)
	s.routes.parse = etcdstore.ParseRoute
	s.routes.apply = s.applyRoutes
	s.routes.standIn = s.standIn
	s.routes.part = func(snap *snapshot) snapshotPart { return snap.Routes }
	s.instances = newFollower[spec.Instance]("instances", etcdstore.ServiceKeys(cfg.ServicePrefix), s.outage, log)
	s.instances.parse = etcdstore.ParseRegistered
	s.instances.foreign = func(name string) bool { return etcdstore.IsForeign(cfg.ServicePrefix, name) }
	s.instances.apply = s.applyInstances
	s.keeper = newKeeper(cfg.KeepOnLoss, s.outage, log, r)
	s.instances.deleted = s.keeper.note
	s.instances.standIn = s.standIn
	s.instances.part = func(snap *snapshot) snapshotPart { return snap.Instances }
	return s
}

// Ready is closed once all routes and instances that were in etcd, or else in the snapshot, are in force.
func (s *Source) Ready() <-chan struct{} { return s.ready }

// errNotConnected means that etcd has not answered yet.
var errNotConnected = errors.New("etcd has not answered yet")

// Client returns the source's own client of etcd, which it closes when Run ends, or why there is none.
func (s *Source) Client() (*clientv3.Client, error) {
	if cli := s.client.Load(); cli != nil {
		return cli, nil
	}
	if reason := s.outage.reason(); reason != "" {
		return nil, errors.New(reason)
	}
	return nil, errNotConnected
}

// NotReady says why Ready is not closed yet, or nil.
func (s *Source) NotReady() error {
	select {
	case <-s.ready:
		return nil
	default:
	}
	reason := s.outage.reason()
	if reason == "" {
		return errors.New("no routes from etcd yet")
	}
	if s.cfg.Snapshot == "" {
		return fmt.Errorf("no routes from etcd yet: %s", reason)
	}
	if err := s.standIn.refusal(); err != nil {
		return fmt.Errorf("no routes from etcd yet: %s; and its snapshot cannot be used: %w", reason, err)
	}
	return fmt.Errorf("no routes from etcd yet: %s; and there is no snapshot of earlier ones", reason)
}

// Run applies routes, instances and their changes until ctx ends. Call it once.
func (s *Source) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if closedBefore(ctx, s.routes.inForce) && closedBefore(ctx, s.instances.inForce) {
			close(s.ready)
		}
	})
	wg.Go(func() { s.tellRefusals(ctx) })
	cli := s.connect(ctx)
	if cli == nil {
		return
	}
	ended := make(chan struct{}) // closed when the followers have ended
	// What is less than all that etcd has never replaces a snapshot.
	wg.Go(func() {
		if closedBefore(ctx, s.schemas.synced) && closedBefore(ctx, s.routes.synced) && closedBefore(ctx, s.instances.synced) {
			s.save(ctx, ended)
		}
	})
	wg.Go(func() { s.waiting.run(ended) })
	var followers sync.WaitGroup
	followers.Go(func() { s.schemas.run(ctx, cli) })
	followers.Go(func() {
		if closedBefore(ctx, s.schemas.inForce) { // routes need them
			s.routes.run(ctx, cli)
		}
	})
	followers.Go(func() { s.instances.run(ctx, cli) })
	followers.Wait()
	s.keeper.close()
	close(ended)
	etcdclient.Close(cli)
}

// tellRefusals tells what is refused for longer than a moment, until ctx ends.
func (s *Source) tellRefusals(ctx context.Context) {
	for {
		select {
		case <-s.bindings.refused:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(tellDelay):
			s.bindings.tell(time.Now().Add(-tellDelay / 2))
		case <-ctx.Done():
			s.bindings.tell(time.Now())
			return
		}
	}
}

// closedBefore waits until c is closed or ctx ends, and reports whether c is closed.
func closedBefore(ctx context.Context, c <-chan struct{}) bool {
	select {
	case <-c:
	case <-ctx.Done():
	}
	return isClosed(c)
}

// connect returns a client, or nil when ctx ends. If etcd does not answer at first, the snapshot comes into force.
func (s *Source) connect(ctx context.Context) *clientv3.Client {
	for {
		cli := s.tryConnect(ctx)
		if cli != nil {
			s.client.Store(cli)
			s.keeper.setClient(cli)
			return cli
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(connectRetry):
		}
	}
}

// tryConnect returns a client, or nil if etcd has to answer for that and does not.
func (s *Source) tryConnect(ctx context.Context) *clientv3.Client {
	anonymous := s.cfg.Client
	anonymous.Username, anonymous.Password = "", ""
	asker, err := etcdclient.New(anonymous)
	if err == nil {
		defer asker.Close()
		if err = etcdclient.ReachWithin(ctx, asker, reachTimeout); err != nil {
			asker = nil // nobody answers
		}
	}
	var cli *clientv3.Client
	if err == nil || s.cfg.Client.Username == "" { // a user needs an etcd that answers
		var bad error
		if cli, bad = etcdclient.New(s.cfg.Client); bad != nil {
			err = bad
		}
	}
	if err != nil && ctx.Err() == nil {
		s.outage.failed(ctx, s.routes.what, err)
		if snap := s.standIn.get(ctx, asker); snap != nil {
			s.instances.fallBack(snap)
			s.schemas.fallBack(snap)
			s.routes.fallBack(snap)
		}
	}
	return cli
}

// applyRoutes puts the good versions of the routes that changed in force, if they fit their schemas.
func (s *Source) applyRoutes(changed map[string]bool) {
	docs := goodOf(s.routes, changed)
	if isClosed(s.routes.inForce) {
		s.waiting.put(docs)
	} else { // all at once
		var addresses []string
		for _, d := range docs {
			if d.value != nil {
				addresses = append(addresses, spec.ListedAddresses(d.value)...)
			}
		}
		defer s.resolver.AwaitNames(addresses)()
		s.bindings.setRoutes(docs)
	}
	s.log.Debug("routes in etcd changed", "changed", len(changed))
	s.snapshotDue()
}

// applySchemas puts the good versions of the schemas that changed in force, if the routes fit them.
func (s *Source) applySchemas(changed map[string]bool) {
	s.bindings.setSchemas(goodOf(s.schemas, changed))
	s.log.Debug("schemas in etcd changed", "changed", len(changed))
	s.snapshotDue()
}

// goodOf returns the last good versions of some documents, none for those that have no such version. It is called by
// the goroutine of f.run.
func goodOf[T any](f *follower[*T], names map[string]bool) map[string]version[T] {
	docs := make(map[string]version[T], len(names))
	for name := range names {
		docs[name] = goodVersion(f.docs[name])
	}
	return docs
}

// goodVersion returns the last good version of a document, none if there is none.
func goodVersion[T any](d *document[*T]) version[T] {
	if d == nil || !d.good() {
		return version[T]{}
	}
	return version[T]{d.value, d.revision}
}

// applyInstances puts the instances that changed in force.
func (s *Source) applyInstances(changed map[string]bool) {
	now := make(map[string]*spec.Instance, len(changed))
	for name := range changed {
		now[name] = goodInstance(s.instances.docs[name])
	}
	select {
	case <-s.instances.inForce: // those there before take the calls until the names of new ones are known
	default:
		var addresses []string
		for _, in := range now {
			if in != nil {
				addresses = append(addresses, in.Address)
			}
		}
		defer s.resolver.AwaitNames(addresses)()
	}
	s.keeper.apply(now)
	s.log.Debug("instances in etcd changed", "changed", len(changed))
	s.snapshotDue()
}

func goodInstance(d *document[spec.Instance]) *spec.Instance {
	if d == nil || !d.good() {
		return nil
	}
	return &d.value
}

// Kept returns the instances that are registered no more and are kept, and how many there were since the start. It may be
// called at any time.
func (s *Source) Kept() (now []KeptInstance, ever int64) { return s.keeper.kept() }
