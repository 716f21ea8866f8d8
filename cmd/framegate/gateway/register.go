package gateway

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/cloudwego/kitex/pkg/registry"
	"github.com/cloudwego/kitex/pkg/utils"
	etcdregistry "github.com/kitex-contrib/registry-etcd"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler/transserver"
	"github.com/framegate/framegate/resolver"
)

// registration keeps this framegate registered in etcd as a Kitex service. The registry itself renews its lease and
// takes a lost one again.
type registration struct {
	etcd   resolver.EtcdClientConfig
	prefix string // of the service's keys
	info   *registry.Info
	log    *slog.Logger
	cancel context.CancelFunc
	done   chan struct{}     // closed by run on exit
	held   registry.Registry // where it is registered, or nil; owned by run until done is closed
	shared *sharedKey        // nil unless another process may register the same address; owned like held
}

// registerRetry is the time between tries to register while etcd cannot be reached.
const registerRetry = time.Second

// startRegistration registers, in the background, the address of the configuration or else the listener's, once ready is
// closed: no client is to come before there are routes.
func startRegistration(cfg conf.Register, listener net.Addr, etcd resolver.EtcdClientConfig, prefix string, reuse transserver.Reuse, ready <-chan struct{}, log *slog.Logger) *registration {
	addr := listener
	if cfg.Address != "" {
		addr = utils.NewNetAddr("tcp", cfg.Address)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &registration{
		etcd:   etcd,
		prefix: prefix,
		info:   &registry.Info{ServiceName: cfg.Service, Addr: addr, Weight: cfg.Weight, Tags: cfg.Tags},
		log:    log,
		cancel: cancel,
		done:   make(chan struct{}),
	}
	if reuse == transserver.ReusePort {
		r.shared = newSharedKey(etcd, prefix, r.info)
	}
	go r.run(ctx, ready)
	return r
}

func (r *registration) run(ctx context.Context, ready <-chan struct{}) {
	defer close(r.done)
	select {
	case <-ready:
	case <-ctx.Done():
		return
	}
	var reg registry.Registry // made once: it has a client of etcd that it never closes
	for logged := false; ; {
		err := r.register(&reg)
		if err == nil {
			r.held = reg
			r.shared.remember(ctx)
			r.log.Info("registered", "service", r.info.ServiceName, "address", r.info.Addr.String())
			return
		}
		if !logged {
			logged = true
			r.log.Warn("cannot register, trying on", "service", r.info.ServiceName, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(registerRetry):
		}
	}
}

func (r *registration) register(reg *registry.Registry) error {
	if *reg == nil {
		client, err := r.etcd.ClientConfig()
		if err != nil {
			return err
		}
		made, err := etcdregistry.NewEtcdRegistry(r.etcd.Endpoints, func(c *etcdregistry.Config) { *c.EtcdConfig, c.Prefix = client, r.prefix })
		if err != nil {
			return err
		}
		*reg = made
	}
	return (*reg).Register(r.info)
}

// stop deregisters. With etcd gone it takes some seconds. It may be called more than once, by one goroutine.
func (r *registration) stop() {
	r.cancel()
	<-r.done
	if r.held == nil {
		return
	}
	if err := r.shared.remove(r.held, r.info); err != nil {
		r.log.Warn("cannot deregister; the lease will run out", "service", r.info.ServiceName, "error", err)
	}
	r.held = nil
}
