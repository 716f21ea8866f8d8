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
	KeepOnLoss    time.Duration // how long an instance that vanished because of etcd is kept at most; 0 keeps none; see keeper
	Compile       resolver.Compiler
}

const (
	connectRetry = time.Second // between tries to make a client of an etcd with users, which has to answer first
	reachTimeout = time.Second // for etcd to answer at the start, before a snapshot is used
	saveDelay    = time.Second // between a change and its snapshot, so that many changes make one snapshot
	saveInterval = 10 * time.Minute
	saveShare    = 50 // the time between two snapshots is at least this many times the time that one takes to write

	// refusalDelay is how long a refused route or schema may wait for the other one that it needs before the refusal is
	// logged; half of it at least.
	refusalDelay = time.Second
)

// Source puts the routes and the registered instances that are in etcd in force. While etcd cannot be reached both stay as
// they are; a process that starts without etcd takes them from the snapshot of an earlier process.
type Source struct {
	// set once
	cfg       Config
	resolver  *resolver.Resolver
	log       *slog.Logger
	reach     *reachability
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
	unwritten atomic.Int64 // times that the snapshot could not be written
	standIn   *standIn
}

// New returns a source with valid prefixes. It does nothing before Run.
func New(cfg Config, r *resolver.Resolver, log *slog.Logger) *Source {
	s := &Source{
		cfg: cfg, resolver: r, log: log, reach: newReachability(log, strings.Join(cfg.Client.Endpoints, ",")),
		ready: make(chan struct{}), changed: make(chan struct{}, 1),
	}
	s.cfg.Client.Silent = s.reach.memberSilent
	s.standIn = newStandIn(cfg, log)
	s.bindings = newBindings(cfg.Compile, func(gone, added []*resolver.Route) { r.Update(Name, gone, added) }, log)
	s.waiting = newWaitingRoutes(r, s.bindings.setRoutes)
	s.schemas = newFollower[*schema.Schema]("schemas", etcdstore.SchemaKeys(cfg.Prefix), s.reach, log)
	s.schemas.parse = etcdstore.ParseSchema
	s.schemas.apply = s.applySchemas
	s.schemas.standIn = s.standIn
	s.schemas.part = func(snap *snapshot) snapshotPart { return snap.Schemas }
	s.routes = newFollower[*spec.Route]("routes", etcdstore.RouteKeys(cfg.Prefix), s.reach, log)
	s.routes.parse = etcdstore.ParseRoute
	s.routes.apply = s.applyRoutes
	s.routes.standIn = s.standIn
	s.routes.part = func(snap *snapshot) snapshotPart { return snap.Routes }
	s.instances = newFollower[spec.Instance]("instances", etcdstore.ServiceKeys(cfg.ServicePrefix), s.reach, log)
	s.instances.parse = etcdstore.ParseRegistered
	s.instances.foreign = func(name string) bool { return etcdstore.IsForeign(cfg.ServicePrefix, name) }
	s.instances.apply = s.applyInstances
	s.keeper = newKeeper(cfg.KeepOnLoss, s.reach, log, r)
	s.instances.deleted = s.keeper.note
	s.instances.standIn = s.standIn
	s.instances.part = func(snap *snapshot) snapshotPart { return snap.Instances }
	return s
}

// Ready is closed once all routes and instances that were in etcd, or else in the snapshot, are in force.
func (s *Source) Ready() <-chan struct{} { return s.ready }

// errNotConnected means that etcd has not answered yet.
var errNotConnected = errors.New("etcd has not answered yet")

// Client returns the source's own client of etcd, which the source closes when Run ends. The error says why there is none.
func (s *Source) Client() (*clientv3.Client, error) {
	if cli := s.client.Load(); cli != nil {
		return cli, nil
	}
	if reason := s.reach.reason(); reason != "" {
		return nil, errors.New(reason)
	}
	return nil, errNotConnected
}

// NotReady returns why Ready is not closed yet; nil if it is.
func (s *Source) NotReady() error {
	select {
	case <-s.ready:
		return nil
	default:
	}
	reason := s.reach.reason()
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
	wg.Go(func() { s.logRefusals(ctx) })
	cli := s.connect(ctx)
	if cli == nil {
		return
	}
	ended := make(chan struct{}) // closed when the followers have ended
	// The snapshot is replaced only after all documents in etcd were read.
	wg.Go(func() {
		if closedBefore(ctx, s.schemas.synced) && closedBefore(ctx, s.routes.synced) && closedBefore(ctx, s.instances.synced) {
			s.save(ctx, ended)
		}
	})
	wg.Go(func() { s.waiting.run(ended) })
	var followers sync.WaitGroup
	followers.Go(func() { s.schemas.run(ctx, cli) })
	followers.Go(func() {
		if closedBefore(ctx, s.schemas.inForce) { // because routes need their schemas
			s.routes.run(ctx, cli)
		}
	})
	followers.Go(func() { s.instances.run(ctx, cli) })
	followers.Wait()
	s.keeper.close()
	close(ended)
	etcdclient.Close(cli)
}

// logRefusals logs the routes and schemas that stay refused for longer than a moment, until ctx ends.
func (s *Source) logRefusals(ctx context.Context) {
	for {
		select {
		case <-s.bindings.refused:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(refusalDelay):
			s.bindings.logRefusals(time.Now().Add(-refusalDelay / 2))
		case <-ctx.Done():
			s.bindings.logRefusals(time.Now())
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

// connect returns a client of etcd, for which it tries again until ctx ends; then it returns nil. If etcd does not answer
// at first, the snapshot comes into force.
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

// tryConnect returns a client, or nil if there is a user to log in and etcd does not answer. A client without a user needs
// no answer: it connects later.
func (s *Source) tryConnect(ctx context.Context) *clientv3.Client {
	anonymous := s.cfg.Client
	anonymous.Username, anonymous.Password = "", ""
	asker, err := etcdclient.New(anonymous)
	if err == nil {
		defer asker.Close()
		if err = etcdclient.ReachWithin(ctx, asker, reachTimeout); err != nil {
			asker = nil // no member of etcd answers
		}
	}
	var cli *clientv3.Client
	if err == nil || s.cfg.Client.Username == "" {
		var bad error
		if cli, bad = etcdclient.New(s.cfg.Client); bad != nil {
			err = bad
		}
	}
	if err != nil && ctx.Err() == nil {
		s.reach.failed(ctx, s.routes.what, err)
		if snap := s.standIn.get(ctx, asker); snap != nil {
			s.instances.fallBack(snap)
			s.schemas.fallBack(snap)
			s.routes.fallBack(snap)
		}
	}
	return cli
}

// applyRoutes puts the good versions of the routes that changed in force, if they fit their schemas. Before the first
// routes are in force it waits for the host names of their endpoints; later ones wait in s.waiting.
func (s *Source) applyRoutes(changed map[string]bool) {
	docs := goodOf(s.routes, changed)
	if isClosed(s.routes.inForce) {
		s.waiting.put(docs)
	} else {
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

// applySchemas puts the good versions of the schemas that changed in force, if the routes in force fit them.
func (s *Source) applySchemas(changed map[string]bool) {
	s.bindings.setSchemas(goodOf(s.schemas, changed))
	s.log.Debug("schemas in etcd changed", "changed", len(changed))
	s.snapshotDue()
}

// goodOf returns the last good versions of documents by name, the zero value for a document without one. It is called by
// the goroutine of f.run.
func goodOf[T any](f *follower[*T], names map[string]bool) map[string]version[T] {
	docs := make(map[string]version[T], len(names))
	for name := range names {
		docs[name] = goodVersion(f.docs[name])
	}
	return docs
}

// goodVersion returns the last good version of a document, the zero value if there is none.
func goodVersion[T any](d *document[*T]) version[T] {
	if d == nil || !d.good() {
		return version[T]{}
	}
	return version[T]{d.value, d.revision}
}

// applyInstances puts the instances that changed in force. Before the first instances are in force it waits for their host
// names; later it does not, because the instances of before take the calls until the names of new ones are looked up.
func (s *Source) applyInstances(changed map[string]bool) {
	now := make(map[string]*spec.Instance, len(changed))
	for name := range changed {
		now[name] = goodInstance(s.instances.docs[name])
	}
	select {
	case <-s.instances.inForce:
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

// Kept returns the instances that are registered no more and are kept in force, sorted by service and address, and how many
// were kept since the start. It may be called at any time.
func (s *Source) Kept() (now []KeptInstance, ever int64) { return s.keeper.kept() }
