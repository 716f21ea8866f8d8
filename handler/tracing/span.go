package tracing

import (
	"context"
	"net"
	"strconv"
	"strings"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/local"
)

// maxText bounds each text from a client in a span, in bytes.
const maxText = 256

// otherMethod stands for an unknown method (OpenTelemetry, "Semantic conventions for gRPC", rpc.method).
const otherMethod = "_OTHER"

// Attributes of framegate's own.
const (
	routeKey    = attribute.Key("framegate.route")
	backendKey  = attribute.Key("framegate.backend")
	endpointKey = attribute.Key("framegate.endpoint")
	reasonKey   = attribute.Key("framegate.error")
	attemptsKey = attribute.Key("framegate.attempts") // if more than one; OpenTelemetry counts resent requests of HTTP clients only
)

// CallStarted implements handler.Observer. The parts of a call with a fan-out have no spans.
func (t *Tracer) CallStarted(r *handler.Record) handler.EndObserver {
	if r.Target != "" {
		return nil
	}
	return t
}

// CallEnded implements handler.EndObserver: it makes the call's span, as a child of the client's if the client sent a
// traceparent (W3C Trace Context), which also says whether it is sampled.
func (t *Tracer) CallEnded(r *handler.Record) {
	name, known := spanName(r)
	parent := t.propagator.Extract(context.Background(), carrier{r})
	_, span := t.tracer.Start(parent, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(r.Start))
	defer span.End(trace.WithTimestamp(r.Start.Add(r.Duration)))
	if !span.IsRecording() {
		return
	}
	code := codeName(r.Code)
	attrs := make([]attribute.KeyValue, 0, 16)
	attrs = append(attrs, semconv.RPCSystemNameGRPC, semconv.RPCResponseStatusCode(code))
	if known {
		attrs = append(attrs, semconv.RPCMethod(name))
	} else {
		attrs = append(attrs, semconv.RPCMethod(otherMethod), semconv.RPCMethodOriginal(methodName(r)))
	}
	attrs = appendText(attrs, routeKey, r.Route)
	attrs = appendText(attrs, backendKey, r.Backend)
	attrs = appendText(attrs, endpointKey, r.Endpoint)
	attrs = appendText(attrs, reasonKey, string(r.Reason))
	attrs = appendText(attrs, semconv.UserAgentOriginalKey, r.UserAgent())
	if host, port, err := net.SplitHostPort(r.Peer()); err == nil {
		attrs = append(attrs, semconv.NetworkPeerAddress(host))
		if n, err := strconv.Atoi(port); err == nil {
			attrs = append(attrs, semconv.NetworkPeerPort(n))
		}
	}
	if n := r.Attempts.Further(); n > 0 {
		attrs = append(attrs, attemptsKey.Int(n+1))
	}
	if isServerError(r.Code) {
		attrs = append(attrs, semconv.ErrorTypeKey.String(code))
		span.SetStatus(otelcodes.Error, string(r.Reason))
	}
	span.SetAttributes(attrs...)
}

// spanName returns the name of a call's span, and whether the name is the call's method. It is not for a method that no route
// matches, or that the endpoint does not implement, because a client can make up any number of such methods.
func spanName(r *handler.Record) (name string, known bool) {
	switch {
	case r.Route == "":
		return otherMethod, false
	case r.Code == codes.Unimplemented && r.Pattern != r.Method:
		return strings.TrimPrefix(r.Pattern, "/"), false
	}
	return methodName(r), true
}

func methodName(r *handler.Record) string { return bounded(strings.TrimPrefix(r.Method, "/")) }

// appendText appends a text, unless it is empty.
func appendText(attrs []attribute.KeyValue, key attribute.Key, text string) []attribute.KeyValue {
	if text == "" {
		return attrs
	}
	return append(attrs, key.String(bounded(text)))
}

// bounded returns at most maxText bytes of s, as UTF-8, which protobuf wants.
func bounded(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(s, "")
}

// codeName returns gRPC's name of the code, or the number of a code that gRPC does not define.
func codeName(c codes.Code) string {
	if name := local.CodeName(c); name != local.OtherCode {
		return name
	}
	return strconv.FormatUint(uint64(c), 10)
}

// isServerError reports whether a server's span has the status Error for that code (OpenTelemetry, "Semantic conventions for
// gRPC", "gRPC status"). The other codes are errors of the client.
func isServerError(c codes.Code) bool {
	switch c {
	case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss:
		return true
	}
	return c > codes.Unauthenticated // no code of gRPC
}

// carrier is the call's headers, for the propagator. Several tracestate headers are one list (W3C Trace Context §3.3.1.1).
type carrier struct{ r *handler.Record }

// Get implements propagation.TextMapCarrier.
func (c carrier) Get(key string) string {
	if v := c.r.Headers(key); len(v) > 1 {
		if key == "tracestate" {
			return strings.Join(v, ",")
		}
		return "" // with two values of traceparent, neither can be trusted
	}
	return c.r.Header(key)
}

// Set implements propagation.TextMapCarrier. It does nothing: the call's headers are forwarded as the client sent them.
func (carrier) Set(string, string) {}

// Keys implements propagation.TextMapCarrier. It returns none: the propagator only calls Get.
func (carrier) Keys() []string { return nil }
