package gateway

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/spec"
)

// registration keeps this framegate registered in etcd as a Kitex service, in the layout of registry-etcd.
type registration struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when it is registered no more
}

const (
	registerRetry = time.Second // between tries to become a client of an etcd with users, which must answer for that
	registerTTL   = 10 * time.Second
)

// startRegistration registers, in the background, the address of the configuration or else the listener's, once ready is
// closed: no client is to come before there are routes.
func startRegistration(cfg conf.Register, listener net.Addr, etcd etcdclient.Config, prefix string, ready <-chan struct{}, log *slog.Logger) *registration {
	ctx, cancel := context.WithCancel(context.Background())
	r := &registration{cancel: cancel, done: make(chan struct{})}
	in := spec.Instance{Address: reachableAddress(cmp.Or(cfg.Address, listener.String())), Weight: cfg.Weight, Tags: cfg.Tags}
	go func() {
		defer close(r.done)
		select {
		case <-ready:
		case <-ctx.Done():
			return
		}
		keepRegistered(ctx, cfg.Service, in, etcd, prefix, log)
	}()
	return r
}

// keepRegistered returns when ctx has ended and the instance is registered no more.
func keepRegistered(ctx context.Context, service string, in spec.Instance, etcd etcdclient.Config, prefix string, log *slog.Logger) {
	for logged := false; ctx.Err() == nil; {
		cli, err := etcdclient.New(etcd)
		if err == nil {
			etcdstore.NewRegistration(etcdstore.NewServices(cli, prefix), service, in, registerTTL, log).Run(ctx)
			etcdclient.Close(cli)
			return
		}
		if !logged {
			logged = true
			log.Warn("cannot register, trying on", "service", service, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(registerRetry):
		}
	}
}

// reachableAddress returns the address under which clients on other machines reach a listener: that of the machine, if the
// listener is at all of them. As with registry-etcd, KITEX_IP_TO_REGISTRY and KITEX_PORT_TO_REGISTRY go before it.
func reachableAddress(listener string) string {
	host, port, err := net.SplitHostPort(listener)
	if err != nil {
		return listener
	}
	host, port = cmp.Or(os.Getenv("KITEX_IP_TO_REGISTRY"), host), cmp.Or(os.Getenv("KITEX_PORT_TO_REGISTRY"), port)
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = cmp.Or(machineAddress(), host)
	}
	return net.JoinHostPort(host, port)
}

// machineAddress returns an IPv4 address of the machine that is not loopback, or "".
func machineAddress() string {
	all, _ := net.InterfaceAddrs() // none without them
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			return p.Addr().String()
		}
	}
	return ""
}

// stop deregisters, which takes at most 3 s. It may be called more than once.
func (r *registration) stop() {
	r.cancel()
	<-r.done
}
