// Package tracing makes an OpenTelemetry span of each call that is sampled, and exports spans with OTLP over gRPC.
//
// Enter at New; then span.go.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/resolver/plain"
)

// DefaultService is the default of Config.Service.
const DefaultService = "framegate"

// Config says where spans go and which are made.
type Config struct {
	Endpoint string  // of the collector, host:port
	Insecure bool    // connect without TLS; else the system's certificate authorities are trusted
	Sample   float64 // the fraction of calls that start a trace, of those whose client sent no trace: 0 none, 1 all
	Service  string  // service.name of the spans; empty means DefaultService
}

// Validate reports what is wrong with cfg.
func (cfg Config) Validate() error {
	var errs []error
	if _, _, err := net.SplitHostPort(cfg.Endpoint); err != nil {
		errs = append(errs, fmt.Errorf("endpoint: %q, want host:port", plain.URL(cfg.Endpoint)))
	}
	if !(cfg.Sample >= 0 && cfg.Sample <= 1) {
		errs = append(errs, fmt.Errorf("sample: %v, want 0 to 1", cfg.Sample))
	}
	return errors.Join(errs...)
}

// Tracer makes spans. It is a handler.Observer.
type Tracer struct {
	provider   *sdktrace.TracerProvider
	tracer     trace.Tracer
	propagator propagation.TraceContext
}

var _ handler.Observer = (*Tracer)(nil)

// New returns a Tracer, which the caller ends with Shutdown. cfg must be valid. New does not wait for the collector. Spans
// that cannot be sent, or that do not fit into the queue, are dropped: no call waits for the collector.
func New(ctx context.Context, cfg Config) (*Tracer, error) {
	options := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(cfg.Endpoint)}
	if cfg.Insecure {
		options = append(options, otlptracegrpc.WithInsecure())
	}
	exporter, err := otlptracegrpc.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	if cfg.Service == "" {
		cfg.Service = DefaultService
	}
	own, err := resource.Merge(resource.Default(), resource.NewSchemaless(semconv.ServiceName(cfg.Service)))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("tracing: %w", err), exporter.Shutdown(ctx))
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(own),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(cfg.Sample))),
	)
	return &Tracer{
		provider: provider,
		tracer:   provider.Tracer("github.com/framegate/framegate/handler/tracing", trace.WithSchemaURL(semconv.SchemaURL)),
	}, nil
}

// Shutdown sends the spans in the queue, and returns when they are sent or ctx has ended. It may be called more than once.
func (t *Tracer) Shutdown(ctx context.Context) error {
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("tracing: %w", err)
	}
	return nil
}

// errorLogInterval is the shortest time between two log lines about errors of OpenTelemetry.
const errorLogInterval = time.Minute

// LogErrors makes OpenTelemetry log its own errors, such as a collector that cannot be reached, to log: at most one a
// minute, with the number of those left out. The setting is global, so a binary calls LogErrors once, before New.
func LogErrors(log *slog.Logger) { otel.SetErrorHandler(newErrorLog(log)) }

type errorLog struct {
	log     *slog.Logger
	often   rate.Sometimes
	leftOut atomic.Int64
}

func newErrorLog(log *slog.Logger) *errorLog {
	return &errorLog{log: log, often: rate.Sometimes{Interval: errorLogInterval}}
}

// Handle implements otel.ErrorHandler.
func (l *errorLog) Handle(err error) {
	l.leftOut.Add(1)
	l.often.Do(func() { l.log.Warn("tracing", "error", err, "left_out_before", l.leftOut.Swap(0)-1) })
}
