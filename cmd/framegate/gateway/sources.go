package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/etcdserver"
)

// sources are where routes come from: a file, etcd, or both; and the etcd itself when it is embedded.
type sources struct {
	log           *slog.Logger
	cancel        context.CancelFunc
	wg            sync.WaitGroup
	embedded      *etcdserver.Server // nil unless etcd is embedded
	etcdEndpoints []string           // none without etcd
	etcdClient    resolver.EtcdClientConfig
	etcd          *resolver.EtcdSource // nil without etcd
	file          *resolver.FileSource // nil without a routes file
}

// startSources reads the routes file and starts to follow it and etcd.
func startSources(ctx context.Context, cfg *conf.Config, r *resolver.Resolver, log *slog.Logger) (*sources, error) {
	run, cancel := context.WithCancel(context.Background())
	s := &sources{log: log, cancel: cancel}
	if err := s.start(ctx, run, cfg, r); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *sources) start(ctx, run context.Context, cfg *conf.Config, r *resolver.Resolver) error {
	if cfg.Routes.File != "" {
		var err error
		if s.file, err = resolver.OpenFile(ctx, cfg.Routes.File, r, handler.CompileRoute, s.log); err != nil {
			return fmt.Errorf("routes.file: %w", err)
		}
		s.file.Interval = cfg.Routes.ReloadInterval
		s.wg.Go(func() { s.file.Run(run) })
	}
	if cfg.Etcd.Is(conf.None) {
		return nil
	}
	s.etcdEndpoints = cfg.Etcd.Endpoints
	if cfg.Etcd.Is(conf.Embedded) {
		if err := s.startEmbedded(ctx, run, cfg.Etcd.Embedded); err != nil {
			return fmt.Errorf("etcd.embedded: %w", err)
		}
	}
	client := cfg.Etcd.Client()
	client.Endpoints = s.etcdEndpoints
	if _, err := client.ClientConfig(); err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	follow := resolver.EtcdConfig{Client: client, Prefix: cfg.Etcd.Prefix, ServicePrefix: cfg.Etcd.ServicePrefix, Compile: handler.CompileRoute}
	if !cfg.Etcd.Is(conf.Embedded) { // which keeps its own data
		follow.Snapshot = cfg.Etcd.Snapshot
	}
	s.etcdClient = client
	s.etcd = resolver.NewEtcdSource(follow, r, s.log)
	s.wg.Go(func() { s.etcd.Run(run) })
	return nil
}

func (s *sources) startEmbedded(ctx, run context.Context, cfg conf.EmbeddedEtcd) (err error) {
	server := cfg.Server()
	server.Log = s.log
	s.embedded, err = etcdserver.Start(ctx, server)
	if err != nil {
		return err
	}
	s.etcdEndpoints = []string{s.embedded.Endpoint()}
	s.log.Info("embedded etcd", "address", s.embedded.Endpoint(), "data", cfg.Dir)
	s.wg.Go(func() {
		select {
		case err := <-s.embedded.Failed():
			s.log.Error("the embedded etcd has ended: routes stay as they are; restart to change them", "error", err)
		case <-run.Done():
		}
	})
	return nil
}

// notReady says why the routes in force may be none, or nil.
func (s *sources) notReady() error {
	if s.etcd == nil {
		return nil
	}
	return s.etcd.NotReady()
}

// status says how what is in force relates to etcd, or to the file where there is no etcd. What was rejected is of both.
func (s *sources) status() (st resolver.SourceStatus) {
	if s.file != nil {
		st = s.file.Status()
	}
	if s.etcd != nil {
		file := st
		st = s.etcd.Status()
		st.Rejected += file.Rejected
		st.Rejections += file.Rejections
	}
	return st
}

// routes says what became of each document of routes.
func (s *sources) routes() (all []resolver.RouteStatus) {
	if s.file != nil {
		all = append(all, s.file.Routes()...)
	}
	if s.etcd != nil {
		all = append(all, s.etcd.Routes()...)
	}
	return all
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
