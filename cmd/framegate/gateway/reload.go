package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/framegate/framegate/admin"
	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/cluster"
)

// errReloadDraining means that the gateway drains, and takes no other configuration any more.
var errReloadDraining = errors.New("this framegate drains: its configuration stays as it is")

// reloader replaces the configuration in force, and holds the parts of the gateway that a key of it may change.
type reloader struct {
	mu sync.Mutex // held by reload

	cfg       *atomic.Pointer[conf.Config] // in force
	log       *slog.Logger
	drain     *drainer
	resolver  *resolver.Resolver
	sources   *sources
	proxy     *handler.Proxy
	listeners *listeners
	observers *observers
	admin     *admin.Server // nil when off
}

// reload is Gateway.Reload.
func (r *reloader) reload(ctx context.Context, next *conf.Config) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.drain.isOn() {
		return errReloadDraining
	}
	if err := next.Validate(); err != nil {
		return err
	}
	cfg, changed, fixed, err := r.cfg.Load().Reload(next)
	if err != nil {
		return err
	}
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("beside what cannot change without a restart: %w", err)
	}
	commit, err := r.prepare(ctx, cfg)
	if err != nil {
		return err
	}
	commit()
	for _, d := range fixed {
		r.log.Warn("the configuration has changed in a key that needs a restart", "key", d.Key, "in_force", d.InForce, "read", d.Read)
	}
	for _, d := range changed {
		r.log.Info("the configuration has changed", "key", d.Key, "from", d.InForce, "to", d.Read)
	}
	r.log.Info("configuration read again", "changed", len(changed), "need_a_restart", len(fixed))
	return nil
}

// prepare does the steps of a change to cfg that may fail, such as opening files. commit does the rest, which cannot fail.
func (r *reloader) prepare(ctx context.Context, cfg *conf.Config) (commit func(), err error) {
	before := r.cfg.Load()
	if r.admin != nil {
		if err := r.admin.CheckToken(cfg.Admin.Token); err != nil {
			return nil, err
		}
	}
	setRoutes, err := r.sources.prepare(ctx, before.Routes, cfg.Routes)
	if err != nil {
		return nil, err
	}
	allow, err := cluster.ParseAllow(cfg.Services.Allow)
	if err != nil {
		return nil, fmt.Errorf("services.allow%w", err)
	}
	setAccessLog, err := r.observers.prepare(before.AccessLog, cfg.AccessLog)
	if err != nil {
		return nil, err
	}
	return func() {
		setRoutes()
		setAccessLog()
		if r.admin != nil {
			r.admin.SetToken(cfg.Admin.Token)
		}
		r.proxy.SetObservers(r.observers.all(cfg))
		r.proxy.SetMaxMessageBytes(cfg.Limits.MaxMessageBytes)
		r.listeners.setLimits(cfg)
		if !slices.Equal(before.Services.Allow, cfg.Services.Allow) {
			r.resolver.SetAllow(allow)
		}
		r.resolver.SetGrace(cfg.Drain.EndpointTimeout)
		r.cfg.Store(cfg)
	}, nil
}

// await waits for a reload under way. Once the gateway drains, later ones do nothing.
func (r *reloader) await() {
	r.mu.Lock()
	defer r.mu.Unlock()
}
