package gateway

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/spec"
)

// registration keeps this framegate registered in etcd as a Kitex service, in the layout of registry-etcd.
type registration struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when it is deregistered
}

const (
	registerRetry = time.Second      // between tries to make a client: with a user and password that needs an answer of etcd
	registerTTL   = 60 * time.Second // of the lease: the default of registry-etcd
)

// startRegistration registers the address of the configuration, or else the listener's, in the background. It waits until
// ready is closed, so that no client comes before there are routes.
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

// keepRegistered keeps the instance registered until ctx ends, deregisters it and returns.
func keepRegistered(ctx context.Context, service string, in spec.Instance, etcd etcdclient.Config, prefix string, log *slog.Logger) {
	for logged := false; ctx.Err() == nil; {
		cli, err := etcdclient.New(etcd)
		if err == nil {
			etcdstore.NewRegistration(etcdstore.NewServices(cli, prefix), service, in, leaseTTL(), log).Run(ctx)
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

// leaseTTL returns how long the instance stays registered after this process has died or has lost etcd. As with registry-etcd,
// KITEX_ETCD_REGISTRY_LEASE_TTL overrides it, in seconds.
func leaseTTL() time.Duration {
	if seconds, err := strconv.Atoi(os.Getenv("KITEX_ETCD_REGISTRY_LEASE_TTL")); err == nil {
		if ttl := time.Duration(seconds) * time.Second; etcdstore.ValidateInstanceTTL(ttl) == nil {
			return ttl
		}
	}
	return registerTTL
}

// reachableAddress returns the address at which clients on other machines reach a listener: its own, or an address of the
// machine if it listens on all of them. As with registry-etcd, KITEX_IP_TO_REGISTRY and KITEX_PORT_TO_REGISTRY override its
// host and its port.
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
	all, _ := net.InterfaceAddrs() // after an error there are none
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			return p.Addr().String()
		}
	}
	return ""
}

// stop deregisters the instance and waits for that: at most 3 s, or etcd.dial_timeout while it connects. It may be called more than once.
func (r *registration) stop() {
	r.cancel()
	<-r.done
}
