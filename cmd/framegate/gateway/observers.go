package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/framegate/framegate/admin"
	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/accesslog"
	"github.com/framegate/framegate/handler/tracing"
)

// observers hear of every call: metrics, the access log, tracing. Each is nil when off.
type observers struct {
	metrics   *admin.Metrics
	accessLog *accesslog.Log
	logFile   io.Closer // nil unless the access log has a file of its own
	tracer    *tracing.Tracer
}

// startObservers starts those that the configuration wants.
func (g *Gateway) startObservers(ctx context.Context) error {
	o := &g.observers
	if c := g.cfg.AccessLog; c.Path != conf.None {
		w, err := o.openLog(c.Path)
		if err != nil {
			return fmt.Errorf("access_log.path: %w", err)
		}
		o.accessLog = accesslog.New(w, accesslog.Config{Sample: c.Sample, Errors: c.Errors, Log: g.log})
	}
	if c := g.cfg.Tracing; c.Endpoint != "" {
		var err error
		o.tracer, err = tracing.New(ctx, c.Tracer())
		if err != nil {
			return fmt.Errorf("tracing.endpoint: %w", err)
		}
	}
	if g.cfg.Admin.Address != conf.None {
		o.metrics = admin.NewMetrics(g.metricsConfig())
	}
	return nil
}

func (o *observers) openLog(path string) (io.Writer, error) {
	switch path {
	case "stdout":
		return os.Stdout, nil
	case "stderr":
		return os.Stderr, nil
	}
	if err := checkLogFile(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, err
	}
	o.logFile = f
	return f, nil
}

// checkLogFile refuses what is there and is no place for a log: to open a named pipe, say, would wait for its reader.
func checkLogFile(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it will be made
	}
	if err != nil {
		return err
	}
	if m := info.Mode(); !m.IsRegular() && m&fs.ModeCharDevice == 0 {
		return fmt.Errorf("%q, which is %s, want a regular file, a character device, stdout, stderr or none", path, m)
	}
	return nil
}

// all returns those that are on.
func (o *observers) all() (on []handler.Observer) {
	if o.metrics != nil {
		on = append(on, o.metrics)
	}
	if o.accessLog != nil {
		on = append(on, o.accessLog)
	}
	if o.tracer != nil {
		on = append(on, o.tracer)
	}
	return on
}

// metricsConfig says where the metrics come from that are not counted call by call.
func (g *Gateway) metricsConfig() admin.MetricsConfig {
	c := admin.MetricsConfig{
		Routes:      g.routeNames,
		Connections: g.connections,
		Groups:      g.groups,
		Loads:       g.Loads,
		Config:      g.configStats,
		Draining:    g.isDraining,
		Listeners:   g.listeners,
	}
	if g.observers.accessLog != nil {
		c.AccessLogDropped = g.observers.accessLog.Dropped
	}
	return c
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
	c := admin.ConfigStats{Revision: st.Revision, Stale: st.Stale, Rejected: st.Rejected, Rejections: st.Rejections, Age: -1}
	if !st.Confirmed.IsZero() {
		c.Age = time.Since(st.Confirmed)
	}
	return c
}

// observersGrace is how long spans may take to be sent at the end.
const observersGrace = 3 * time.Second

// stop writes what is waiting to be written. The calls have ended.
func (o *observers) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, observersGrace)
	defer cancel()
	var errs []error
	if o.accessLog != nil {
		errs = append(errs, o.accessLog.Close())
	}
	if o.logFile != nil {
		errs = append(errs, o.logFile.Close())
	}
	if o.tracer != nil {
		errs = append(errs, o.tracer.Shutdown(ctx))
	}
	return errors.Join(errs...)
}
