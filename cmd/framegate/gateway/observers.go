package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/framegate/framegate/admin"
	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/accesslog"
	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/handler/tracing"
)

// observers are the handler.Observers of every call: metrics, the access log, tracing.
type observers struct {
	metrics   *admin.Metrics // nil when off
	accessLog *accesslog.Log // never nil after the start; observes calls only while access_log.path is set
	logOutput *accesslog.Output
	tracer    *tracing.Tracer // nil when off
}

// startObservers makes the observers that the configuration turns on.
func (g *Gateway) startObservers(ctx context.Context) error {
	o := &g.observers
	target, err := openAccessLog(g.conf().AccessLog)
	if err != nil {
		return err
	}
	c := g.conf().AccessLog
	o.logOutput = accesslog.NewOutput(target)
	o.accessLog = accesslog.New(o.logOutput, accesslog.Config{Sample: c.Sample, Errors: c.Errors, Log: g.log})
	if c := g.conf().Tracing; c.Endpoint != "" {
		o.tracer, err = tracing.New(ctx, c.Tracer())
		if err != nil {
			return fmt.Errorf("tracing.endpoint: %w", err)
		}
	}
	if g.conf().Admin.Address != conf.None {
		o.metrics = admin.NewMetrics(g.metricsConfig())
	}
	return nil
}

// openAccessLog opens the target of the access log; nil if it is off.
func openAccessLog(c conf.AccessLog) (*accesslog.Target, error) {
	if c.Path == conf.None {
		return nil, nil
	}
	target, err := accesslog.Open(c.Path)
	if err != nil {
		return nil, fmt.Errorf("access_log.path: %w", err)
	}
	return target, nil
}

// all returns the observers that are on in c.
func (o *observers) all(c *conf.Config) (on []handler.Observer) {
	if o.metrics != nil {
		on = append(on, o.metrics)
	}
	if c.AccessLog.Path != conf.None {
		on = append(on, o.accessLog)
	}
	if o.tracer != nil {
		on = append(on, o.tracer)
	}
	return on
}

// metricsConfig returns the sources of the metrics that are not counted call by call.
func (g *Gateway) metricsConfig() admin.MetricsConfig {
	return admin.MetricsConfig{
		Routes:           g.routeNames,
		Connections:      g.connections,
		Groups:           g.groups,
		Lookups:          g.resolver.Lookups,
		Loads:            g.Loads,
		Config:           g.configStats,
		Draining:         g.isDraining,
		HealthWatches:    g.health.watching,
		Listeners:        g.listeners,
		AccessLogDropped: g.observers.accessLog.Dropped,
		Decoding:         func() budget.Stats { return g.proxy.Decoding() },
	}
}

func (g *Gateway) routeNames() map[string]admin.RouteNames {
	all := map[string]admin.RouteNames{}
	for _, r := range g.resolver.Routes() {
		n := all[r.Name]
		for _, b := range r.Backends {
			n.Backends = append(n.Backends, b.Name)
		}
		for _, m := range r.Match {
			n.Patterns = append(n.Patterns, m.Method)
		}
		all[r.Name] = n
	}
	return all
}

func (g *Gateway) connections() map[string]int {
	open := map[string]int{}
	for _, e := range g.pool.Endpoints() {
		open[e.Address] = e.Connections
	}
	return open
}

func (g *Gateway) configStats() admin.ConfigStats {
	st := g.sources.status()
	c := admin.ConfigStats{Revision: st.Revision, Stale: st.Stale, Rejected: st.Rejected, Rejections: st.Rejections, Age: -1, SnapshotAge: -1, SnapshotFailures: st.SnapshotFailures}
	if g.sources.etcd != nil {
		kept, ever := g.sources.etcd.Kept()
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

// observersGrace bounds how long the tracer may take to send its last spans.
const observersGrace = 3 * time.Second

// stop writes the lines and spans that still wait, and closes the access log and the tracer. The calls must have ended.
func (o *observers) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, observersGrace)
	defer cancel()
	var errs []error
	if o.accessLog != nil {
		errs = append(errs, o.accessLog.Close())
	}
	if o.logOutput != nil {
		errs = append(errs, o.logOutput.Close())
	}
	if o.tracer != nil {
		errs = append(errs, o.tracer.Shutdown(ctx))
	}
	return errors.Join(errs...)
}
