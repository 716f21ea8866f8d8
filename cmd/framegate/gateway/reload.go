package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/resolver/cluster"
)

// errReloadDraining means that the gateway drains, and takes no other configuration any more.
var errReloadDraining = errors.New("this framegate drains: its configuration stays as it is")

// Reload puts the values of next in force, for the keys that may change while a framegate runs: all of them or, with an
// error, none. A warning in the log names every other key whose value differs. The caller applies log.level and log.format.
func (g *Gateway) Reload(ctx context.Context, next *conf.Config) error {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	if g.drain.isOn() {
		return errReloadDraining
	}
	if err := next.Validate(); err != nil {
		return err
	}
	cfg, changed, fixed, err := g.conf().Reload(next)
	if err != nil {
		return err
	}
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("beside what cannot change without a restart: %w", err)
	}
	commit, err := g.prepare(ctx, cfg)
	if err != nil {
		return err
	}
	commit()
	for _, d := range fixed {
		g.log.Warn("the configuration has changed in a key that needs a restart", "key", d.Key, "in_force", d.InForce, "read", d.Read)
	}
	for _, d := range changed {
		g.log.Info("the configuration has changed", "key", d.Key, "from", d.InForce, "to", d.Read)
	}
	g.log.Info("configuration read again", "changed", len(changed), "need_a_restart", len(fixed))
	return nil
}

// prepare does the steps of a change to cfg that may fail, such as opening files. commit does the rest, which cannot fail.
func (g *Gateway) prepare(ctx context.Context, cfg *conf.Config) (commit func(), err error) {
	before := g.conf()
	if g.admin != nil {
		if err := g.admin.CheckToken(cfg.Admin.Token); err != nil {
			return nil, err
		}
	}
	setRoutes, err := g.sources.prepare(ctx, before.Routes, cfg.Routes)
	if err != nil {
		return nil, err
	}
	allow, err := cluster.ParseAllow(cfg.Services.Allow)
	if err != nil {
		return nil, fmt.Errorf("services.allow%w", err)
	}
	setAccessLog, err := g.observers.prepare(before.AccessLog, cfg.AccessLog)
	if err != nil {
		return nil, err
	}
	return func() {
		setRoutes()
		setAccessLog()
		if g.admin != nil {
			g.admin.SetToken(cfg.Admin.Token)
		}
		g.proxy.SetObservers(g.observers.all(cfg))
		g.proxy.SetMaxMessageBytes(cfg.Limits.MaxMessageBytes)
		g.listeners.setLimits(cfg)
		if !slices.Equal(before.Services.Allow, cfg.Services.Allow) {
			g.resolver.SetAllow(allow)
		}
		g.resolver.SetGrace(cfg.Drain.EndpointTimeout)
		g.cfg.Store(cfg)
	}, nil
}

// awaitReload waits for a Reload under way. Once the gateway drains, later ones do nothing.
func (g *Gateway) awaitReload() {
	g.reloading.Lock()
	defer g.reloading.Unlock()
}
