package gateway

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/cloudwego/kitex/pkg/registry"
	"github.com/cloudwego/kitex/pkg/utils"
	etcdregistry "github.com/kitex-contrib/registry-etcd"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler/transserver"
	"github.com/framegate/framegate/resolver/etcdclient"
)

// registration keeps this framegate registered in etcd as a Kitex service. The registry itself renews its lease and
// takes a lost one again.
type registration struct {
	etcd   etcdclient.Config
	prefix string // of the service's keys
	info   *registry.Info
	log    *slog.Logger
	cancel context.CancelFunc
	done   chan struct{}     // closed by run on exit
	held   registry.Registry // where it is registered, or nil; owned by run until done is closed
	fixed  net.Addr          // what to register where registry-etcd would write the address wrong; else nil
	own    *ownKey           // nil where registry-etcd is to delete the key; owned like held
}

// registerRetry is the time between tries to register while etcd cannot be reached.
const registerRetry = time.Second

// startRegistration registers, in the background, the address of the configuration or else the listener's, once ready is
// closed: no client is to come before there are routes.
func startRegistration(cfg conf.Register, listener net.Addr, etcd etcdclient.Config, prefix string, reuse transserver.Reuse, ready <-chan struct{}, log *slog.Logger) *registration {
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
	r.fixed = fixedAddress(addr)
	if reuse == transserver.ReusePort || r.fixed != nil {
		r.own = newOwnKey(etcd, prefix, r.info, r.fixed)
	}
	go r.run(ctx, ready)
	return r
}

// fixedAddress returns the address that registry-etcd would register for a listener's, if that is one of IPv6, which it
// writes without brackets, so that nobody can connect to it; else nil. Like registry-etcd it heeds KITEX_IP_TO_REGISTRY and
// KITEX_PORT_TO_REGISTRY.
func fixedAddress(listener net.Addr) net.Addr {
	host, port, err := net.SplitHostPort(listener.String())
	if err != nil {
		return nil
	}
	host = cmp.Or(os.Getenv("KITEX_IP_TO_REGISTRY"), host)
	ip, err := netip.ParseAddr(host)
	if err != nil || !ip.Is6() || ip.IsUnspecified() { // for :: it takes an IPv4 address of the machine
		return nil
	}
	return utils.NewNetAddr(listener.Network(), net.JoinHostPort(host, cmp.Or(os.Getenv("KITEX_PORT_TO_REGISTRY"), port)))
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
			r.own.remember(ctx)
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
		etcdregistry.SetFixedAddress(made, r.fixed)
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
	if err := r.own.remove(r.held, r.info); err != nil {
		r.log.Warn("cannot deregister; the lease will run out", "service", r.info.ServiceName, "error", err)
	}
	r.held = nil
}
