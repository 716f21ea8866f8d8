package gateway

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/framegate/framegate/admin"
	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/etcdserver"
	"github.com/framegate/framegate/resolver/etcdsource"
	"github.com/framegate/framegate/resolver/filesource"
)

// sources are where routes come from: a file, etcd, or both; and the etcd itself when it is embedded.
type sources struct {
	log           *slog.Logger
	resolver      *resolver.Resolver
	run           context.Context // ended by stop
	cancel        context.CancelFunc
	wg            sync.WaitGroup
	embedded      *etcdserver.Server // nil unless etcd is embedded
	etcdEndpoints []string           // none without etcd
	etcdClient    etcdclient.Config
	etcd          *etcdsource.Source         // nil without etcd
	file          atomic.Pointer[routesFile] // nil without a routes file
}

// routesFile is a routes file whose changes are followed by a goroutine.
type routesFile struct {
	*filesource.Source
	cancel context.CancelFunc // ends the goroutine
	done   chan struct{}      // closed when it has ended
}

// newSources returns sources that have read nothing yet. The caller calls start once, and stop in the end.
func newSources(r *resolver.Resolver, log *slog.Logger) *sources {
	s := &sources{log: log, resolver: r}
	s.run, s.cancel = context.WithCancel(context.Background())
	return s
}

// start reads the routes file, puts its routes in force, and starts to follow it and etcd, until stop. ctx bounds the start
// only.
func (s *sources) start(ctx context.Context, cfg *conf.Config) error {
	file, err := s.loadFile(ctx, cfg.Routes)
	if err != nil {
		return err
	}
	s.follow(file)
	if cfg.Etcd.Is(conf.None) {
		return nil
	}
	s.etcdEndpoints = cfg.Etcd.Endpoints
	if cfg.Etcd.Is(conf.Embedded) {
		if err := s.startEmbedded(ctx, cfg.Etcd); err != nil {
			return fmt.Errorf("etcd.embedded: %w", err)
		}
		s.resolver.Own("etcd.embedded", s.embedded.Addr())
	}
	client := cfg.Etcd.Client()
	client.Endpoints = s.etcdEndpoints
	if s.embedded != nil {
		client.Endpoints, client.Dial = []string{s.embedded.Endpoint()}, s.embedded.Dial
	}
	if _, err := client.ClientConfig(); err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	follow := etcdsource.Config{Client: client, Prefix: cfg.Etcd.Prefix, ServicePrefix: cfg.Etcd.ServicePrefix, KeepOnLoss: cfg.Services.KeepOnLoss, Compile: structmode.CompileRoute}
	if !cfg.Etcd.Is(conf.Embedded) { // an embedded etcd has its data in this process and needs no snapshot
		follow.Snapshot = cfg.Etcd.Snapshot
	}
	s.etcdClient = client
	s.etcd = etcdsource.New(follow, s.resolver, s.log)
	s.wg.Go(func() { s.etcd.Run(s.run) })
	return nil
}

// loadFile reads the routes file, if there is one; else it returns nil.
func (s *sources) loadFile(ctx context.Context, cfg conf.Routes) (*filesource.Source, error) {
	if cfg.File == "" {
		return nil, nil
	}
	file, err := filesource.Load(ctx, cfg.File, s.resolver, structmode.CompileRoute, s.log)
	if err != nil {
		return nil, fmt.Errorf("routes.file: %w", err)
	}
	file.SetInterval(cfg.ReloadInterval)
	return file, nil
}

// follow replaces the routes of the previous file by those of file, or by none if file is nil, and starts to follow its
// changes. It must not be called during stop.
func (s *sources) follow(file *filesource.Source) {
	if before := s.file.Load(); before != nil {
		before.cancel()
		<-before.done
	}
	if file == nil {
		s.file.Store(nil)
		s.resolver.Apply(filesource.Name, nil)
		return
	}
	run, cancel := context.WithCancel(s.run)
	f := &routesFile{Source: file, cancel: cancel, done: make(chan struct{})}
	file.Apply()
	s.file.Store(f)
	s.wg.Go(func() {
		defer close(f.done)
		file.Run(run)
	})
}

// prepare reads the routes file for a reload, if it is another one. commit puts next in force.
func (s *sources) prepare(ctx context.Context, before, next conf.Routes) (commit func(), err error) {
	if next.File == before.File {
		return func() {
			if f := s.file.Load(); f != nil {
				f.SetInterval(next.ReloadInterval)
			}
		}, nil
	}
	file, err := s.loadFile(ctx, next)
	if err != nil {
		return nil, err
	}
	return func() { s.follow(file) }, nil
}

func (s *sources) startEmbedded(ctx context.Context, cfg conf.Etcd) (err error) {
	server := cfg.Server()
	server.Log, server.MaxConnections = s.log, min(etcdserver.DefaultMaxConnections, sideConnections())
	s.embedded, err = etcdserver.Start(ctx, server)
	if err != nil {
		return err
	}
	s.etcdEndpoints = []string{s.embedded.Endpoint()}
	if server.CertFile != "" {
		s.etcdEndpoints[0] = "https://" + s.etcdEndpoints[0]
	}
	s.log.Info("embedded etcd", "address", s.etcdEndpoints[0], "data", cfg.Embedded.Dir)
	s.wg.Go(func() {
		select {
		case err := <-s.embedded.Failed():
			s.log.Error("the embedded etcd has ended: routes stay as they are; restart to change them", "error", err)
		case <-s.run.Done():
		}
	})
	return nil
}

// ready is closed once the first routes are in force.
func (s *sources) ready() <-chan struct{} {
	if s.etcd != nil {
		return s.etcd.Ready()
	}
	now := make(chan struct{}) // the routes of a file are in force when the sources have started
	close(now)
	return now
}

// notReady returns why there may be no routes in force yet, or nil if there are.
func (s *sources) notReady() error {
	if s.etcd == nil {
		return nil
	}
	return s.etcd.NotReady()
}

// awaitLimit bounds how long await waits.
const awaitLimit = 30 * time.Second

// await waits until the routes are in force, for listeners that share their addresses with another process (reuse_port). Calls
// would come to such a listener as soon as it listens, although the other process, which has its routes, could answer them.
func (s *sources) await(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; {
		err := s.notReady()
		if err == nil {
			return nil
		}
		if time.Since(began) > awaitLimit {
			return fmt.Errorf("not listening beside others (reuse_port) without routes: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// status returns how far the routes and instances in force are those of etcd, or of the file without etcd. Its counts of
// rejected documents are those of both.
func (s *sources) status() (st resolver.SourceStatus) {
	if f := s.file.Load(); f != nil {
		st = f.Status()
	}
	if s.etcd != nil {
		file := st
		st = s.etcd.Status()
		st.Rejected += file.Rejected
		st.Rejections += file.Rejections
	}
	return st
}

// stats is status for the metrics.
func (s *sources) stats() admin.ConfigStats {
	st := s.status()
	c := admin.ConfigStats{Revision: st.Revision, Stale: st.Stale, Rejected: st.Rejected, Rejections: st.Rejections, Age: -1, SnapshotAge: -1, SnapshotFailures: st.SnapshotFailures}
	if s.etcd != nil {
		kept, ever := s.etcd.Kept()
		c.Kept, c.EverKept = len(kept), ever
	}
	if !st.Confirmed.IsZero() {
		c.Age = time.Since(st.Confirmed)
	}
	if !st.SnapshotWritten.IsZero() {
		c.SnapshotAge = time.Since(st.SnapshotWritten)
	}
	return c
}

// routes returns the status of every route document of all sources.
func (s *sources) routes() (all []resolver.RouteStatus) {
	if f := s.file.Load(); f != nil {
		all = append(all, f.Routes()...)
	}
	if s.etcd != nil {
		all = append(all, s.etcd.Routes()...)
	}
	return all
}

// clusters returns the states of the clusters and endpoints of the routes in force. Until when an instance is kept is known
// to the etcd source, so it is added here.
func (s *sources) clusters() ([]cluster.State, []cluster.EndpointState) {
	endpoints := s.resolver.Endpoints()
	if s.etcd == nil {
		return s.resolver.Clusters(), endpoints
	}
	type place struct{ service, address string }
	kept, _ := s.etcd.Kept()
	until := make(map[place]time.Time, len(kept))
	for _, in := range kept {
		until[place{in.Service, in.Address}] = in.Until
	}
	for i, e := range endpoints {
		if e.Service != "" {
			endpoints[i].KeptUntil = until[place{e.Service, cmp.Or(e.Name, e.Address)}] // it was registered under its name
		}
	}
	return s.resolver.Clusters(), endpoints
}

// stop ends the sources. The routes stay in force.
func (s *sources) stop() {
	s.cancel()
	s.wg.Wait()
	if s.embedded == nil {
		return
	}
	if err := s.embedded.Close(); err != nil {
		s.log.Warn("embedded etcd did not close cleanly", "error", err)
	}
}
