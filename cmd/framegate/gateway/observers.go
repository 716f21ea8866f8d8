package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/framegate/framegate/admin"
	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/accesslog"
	"github.com/framegate/framegate/handler/tracing"
)

// observers are the handler.Observers of every call: metrics, the access log, tracing.
type observers struct {
	metrics   *admin.Metrics // nil when off
	accessLog *accesslog.Log // never nil after the start; observes calls only while access_log.path is set
	logOutput *accesslog.Output
	tracer    *tracing.Tracer // nil when off
}

// start makes the observers that cfg turns on. metrics has everything but AccessLogDropped. The caller calls stop in the
// end, also after an error.
func (o *observers) start(ctx context.Context, cfg *conf.Config, metrics admin.MetricsConfig, log *slog.Logger) error {
	c := cfg.AccessLog
	target, err := openAccessLog(c)
	if err != nil {
		return err
	}
	o.logOutput = accesslog.NewOutput(target)
	o.accessLog = accesslog.New(o.logOutput, accesslog.Config{Sample: c.Sample, Errors: c.Errors, Log: log})
	if c := cfg.Tracing; c.Endpoint != "" {
		o.tracer, err = tracing.New(ctx, c.Tracer())
		if err != nil {
			return fmt.Errorf("tracing.endpoint: %w", err)
		}
	}
	if cfg.Admin.Address != conf.None {
		metrics.AccessLogDropped = o.accessLog.Dropped
		o.metrics = admin.NewMetrics(metrics)
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

// prepare opens the access log for a reload, if it is another file. commit puts next in force.
func (o *observers) prepare(before, next conf.AccessLog) (commit func(), err error) {
	use := func() {}
	if next.Path != before.Path {
		target, err := openAccessLog(next)
		if err != nil {
			return nil, err
		}
		use = func() { o.logOutput.Use(target) }
	}
	return func() {
		use()
		o.accessLog.Choose(accesslog.Choice{Sample: next.Sample, Errors: next.Errors})
	}, nil
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
