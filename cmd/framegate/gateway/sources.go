package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/framegate/framegate/conf"
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
	ready         chan struct{} // closed when the routes in etcd are in force; nil without etcd
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
		file, err := resolver.OpenFile(cfg.Routes.File, r, s.log)
		if err != nil {
			return fmt.Errorf("routes.file: %w", err)
		}
		file.Interval = cfg.Routes.ReloadInterval
		s.wg.Go(func() { file.Run(run) })
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
	s.etcdClient = cfg.Etcd.Client()
	s.etcdClient.Endpoints = s.etcdEndpoints
	if _, err := s.etcdClient.ClientConfig(); err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	s.ready = make(chan struct{})
	s.wg.Go(func() { s.followEtcd(run, cfg.Etcd.Prefix, r) })
	return nil
}

// etcdRetry is the time between tries to become a client of an etcd with users, which must answer for that.
const etcdRetry = time.Second

// followEtcd keeps the routes in etcd in force until ctx ends.
func (s *sources) followEtcd(ctx context.Context, prefix string, r *resolver.Resolver) {
	for logged := false; ; {
		client, err := resolver.NewEtcdClient(s.etcdClient)
		if err == nil {
			s.watchEtcd(ctx, resolver.NewEtcdSource(client, prefix, r, s.log))
			_ = client.Close() // its error is that of the context that Close itself ends
			return
		}
		if !logged {
			logged = true
			s.log.Warn("etcd cannot be used, trying on: start it, or name another", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(etcdRetry):
		}
	}
}

func (s *sources) watchEtcd(ctx context.Context, source *resolver.EtcdSource) {
	s.wg.Go(func() {
		select {
		case <-source.Ready():
			close(s.ready)
		case <-ctx.Done():
		}
	})
	source.Run(ctx)
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

// notReady says why the routes in force may be none or old, or nil.
func (s *sources) notReady() error {
	if s.ready == nil {
		return nil
	}
	select {
	case <-s.ready:
		return nil
	default:
		return errors.New("no routes from etcd yet")
	}
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
