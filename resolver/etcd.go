package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// SourceEtcd is the name under which EtcdSource applies its routes.
const SourceEtcd = "etcd"

const (
	etcdRequestTimeout = 5 * time.Second
	etcdProbeInterval  = 10 * time.Second
	outageLogInterval  = time.Minute

	minResync = 100 * time.Millisecond
	maxResync = 5 * time.Second
	// steadyWatch is how long a watch must have lasted for the next resync to start with the shortest wait again.
	steadyWatch = 10 * time.Second
)

// errReplaced means that etcd's revision is lower than one it had: its data was restored or removed. Read everything
// again.
var errReplaced = errors.New("etcd went back to an earlier revision: its data was replaced")

// EtcdSource keeps the routes in etcd in force: it reads them all at one revision, then watches from the next one.
//
//	sync ──ok──> watch ──compacted, canceled, replaced──> wait ──> sync
//	  └──error──────────────────────────────────────────> wait
//
// While etcd cannot be reached the routes stay as they are. A bad document never replaces a good one.
type EtcdSource struct {
	// set once
	cli        *clientv3.Client
	keys       string // what the keys of routes start with
	resolver   *Resolver
	log        *slog.Logger
	ready      chan struct{} // closed by Run after the first sync
	probeEvery time.Duration

	// owned by Run
	docs     map[string]*document // by name
	revision int64                // etcd's, up to which docs are known
	outage   outage
}

// document is what is known of one key.
type document struct {
	route    *Route // the last good version; nil if there was none
	revision int64  // of the last version, good or bad
}

// NewEtcdSource returns a source of the routes under a valid prefix. It does nothing before Run. The caller closes cli
// after Run has returned.
func NewEtcdSource(cli *clientv3.Client, prefix string, r *Resolver, log *slog.Logger) *EtcdSource {
	return &EtcdSource{
		cli: cli, keys: routeKeys(prefix), resolver: r, log: log,
		ready: make(chan struct{}), probeEvery: etcdProbeInterval,
		docs: map[string]*document{}, outage: outage{log: log, endpoints: strings.Join(cli.Endpoints(), ",")},
	}
}

// Ready is closed once all routes that were in etcd are in force.
func (s *EtcdSource) Ready() <-chan struct{} { return s.ready }

// Run applies the routes and their changes until ctx ends. Call it once.
func (s *EtcdSource) Run(ctx context.Context) {
	wait := minResync
	for {
		if err := s.sync(ctx); err != nil {
			s.outage.failed(ctx, s.cause(ctx, err))
		} else {
			s.outage.over()
			s.markReady()
			began := time.Now()
			err = s.watch(ctx)
			if time.Since(began) >= steadyWatch {
				wait = minResync
			}
			if ctx.Err() == nil {
				s.log.Info("reading all routes in etcd again", "reason", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(jitter(wait)):
		}
		wait = min(2*wait, maxResync)
	}
}

func (s *EtcdSource) markReady() {
	select {
	case <-s.ready:
	default:
		close(s.ready)
	}
}

// jitter spreads waits so that many framegates do not come back to etcd at one time.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2)
}

// sync reads all documents at one revision and puts them in force.
func (s *EtcdSource) sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, etcdRequestTimeout)
	defer cancel()
	resp, err := s.cli.Get(ctx, s.keys, clientv3.WithPrefix())
	if err != nil {
		return fmt.Errorf("get routes: %w", err)
	}
	// The read is linearizable: in one store, its revision cannot be lower than what was seen before.
	if resp.Header.Revision < s.revision {
		s.log.Warn("etcd's data was replaced by an earlier state; its routes as they are now come into force",
			"revision", resp.Header.Revision, "was", s.revision)
		for _, d := range s.docs {
			d.revision = 0
		}
	}
	present := make(map[string]bool, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		name := s.nameOf(kv.Key)
		present[name] = true
		s.put(name, kv.Value, kv.ModRevision)
	}
	for name := range s.docs {
		if !present[name] {
			delete(s.docs, name)
		}
	}
	s.revision = resp.Header.Revision
	routes := s.apply()
	s.log.Info("routes in etcd are in force", "routes", routes, "revision", s.revision)
	return nil
}

// watch applies changes until etcd ends the watch or ctx ends. A connection that breaks does not end it: the client
// takes the watch up again where it was.
func (s *EtcdSource) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer cancel()
	opened, from := make(chan clientv3.WatchChan, 1), s.revision+1
	helpers.Go(func() { // Watch waits for a connection
		opened <- s.cli.Watch(ctx, s.keys, clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithProgressNotify())
	})
	var changes clientv3.WatchChan

	look := time.NewTicker(s.probeEvery)
	defer look.Stop()
	var probed chan error // of the probe under way, if any
	for {
		select {
		case changes = <-opened:
		case resp, ok := <-changes:
			if !ok {
				return errors.New("watch of routes ended")
			}
			if err := resp.Err(); err != nil {
				return fmt.Errorf("watch of routes: %w", err)
			}
			s.follow(resp)
		case <-look.C:
			if probed == nil {
				result, known := make(chan error, 1), s.revision
				helpers.Go(func() { result <- s.probe(ctx, known) })
				probed = result
			}
		case err := <-probed:
			probed = nil
			switch {
			case errors.Is(err, errReplaced):
				return err
			case err != nil:
				s.outage.failed(ctx, s.cause(ctx, err))
			default:
				s.outage.over()
			}
		}
	}
}

// probe asks etcd for its revision, so that an outage is noticed, which a watch hides, and a store that was replaced
// meanwhile, in which the watch would wait for its revision to come.
func (s *EtcdSource) probe(ctx context.Context, known int64) error {
	ctx, cancel := context.WithTimeout(ctx, etcdRequestTimeout)
	defer cancel()
	resp, err := s.cli.Get(ctx, s.keys, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return fmt.Errorf("get revision: %w", err)
	}
	if resp.Header.Revision < known {
		return errReplaced
	}
	return nil
}

// follow applies the changes of one response.
func (s *EtcdSource) follow(resp clientv3.WatchResponse) {
	changed := false
	for _, e := range resp.Events {
		name, revision := s.nameOf(e.Kv.Key), e.Kv.ModRevision
		if e.Type == clientv3.EventTypeDelete {
			changed = s.remove(name, revision) || changed
		} else {
			changed = s.put(name, e.Kv.Value, revision) || changed
		}
		s.revision = max(s.revision, revision)
	}
	if resp.IsProgressNotify() {
		s.revision = max(s.revision, resp.Header.Revision)
	}
	if changed {
		routes := s.apply()
		s.log.Debug("routes in etcd changed", "routes", routes, "revision", s.revision)
	}
}

func (s *EtcdSource) nameOf(key []byte) string { return strings.TrimPrefix(string(key), s.keys) }

// put notes a version of a document and reports whether another route is in force for it.
func (s *EtcdSource) put(name string, value []byte, revision int64) bool {
	d := s.docs[name]
	if d == nil {
		d = &document{}
		s.docs[name] = d
	}
	if revision <= d.revision {
		return false
	}
	d.revision = revision
	route, err := parseStored(name, value)
	if err != nil {
		stays := "no version of it is in force"
		if d.route != nil {
			stays = "its last good version stays in force"
		}
		s.log.Error("bad route in etcd; "+stays, "key", s.keys+name, "revision", revision, "error", err)
		return false
	}
	d.route = route
	return true
}

func (s *EtcdSource) remove(name string, revision int64) bool {
	d := s.docs[name]
	if d == nil || revision <= d.revision {
		return false
	}
	delete(s.docs, name)
	return d.route != nil
}

// apply puts the good versions of all documents in force and returns how many they are.
func (s *EtcdSource) apply() int {
	routes := make([]*Route, 0, len(s.docs))
	for _, d := range s.docs {
		if d.route != nil {
			routes = append(routes, d.route)
		}
	}
	s.resolver.Apply(SourceEtcd, routes)
	return len(routes)
}

// cause says why a request was not answered where the request itself only says that it waited too long.
func (s *EtcdSource) cause(ctx context.Context, err error) error {
	if !IsUnavailable(err) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if reason := ReachEtcd(ctx, s.cli); reason != nil {
		return reason
	}
	return err
}

// outage logs that etcd cannot be used, at most once per outageLogInterval, and that it can again.
type outage struct {
	log       *slog.Logger
	endpoints string
	began     time.Time // zero when etcd can be used
	logged    time.Time // when the last outage was logged
	told      bool      // whether this outage was logged
}

// failed is told each error of a request. One that comes from the end of ctx does not count.
func (o *outage) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	if o.began.IsZero() {
		o.began = now
	}
	if !o.logged.IsZero() && now.Sub(o.logged) < outageLogInterval {
		return
	}
	o.logged, o.told = now, true
	o.log.Warn("etcd cannot be used; routes stay as they are until it can: start it, or name another", "endpoints", o.endpoints, "since", o.began.Format(time.RFC3339), "error", err)
}

func (o *outage) over() {
	if o.told {
		o.log.Info("etcd can be used again", "endpoints", o.endpoints, "outage", time.Since(o.began).Round(time.Millisecond))
	}
	o.began, o.told = time.Time{}, false
}
