package transserver

import (
	"context"
	"fmt"
	"reflect"
	"unsafe"
)

// limitStreams makes the Kitex transport of a connection enforce the number of streams that it has announced: the
// excess is refused with REFUSED_STREAM (RFC 9113 §5.1.2). Kitex v0.16.3 has the code for it and never sets the limit. ctx
// is what OnActive returned; the transport must not read yet. 0 leaves it without a limit.
func limitStreams(ctx context.Context, n uint32) error {
	if n == 0 {
		return nil
	}
	// *context.valueCtx -> val: *nphttp2.SvrTrans -> tr: grpc.ServerTransport of *grpc.http2Server -> maxStreams
	v := reflect.ValueOf(ctx)
	for _, field := range []string{"val", "tr", "maxStreams"} {
		for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return fmt.Errorf("%v, want a struct with the field %s", v.Kind(), field)
		}
		if v = v.FieldByName(field); !v.IsValid() {
			return fmt.Errorf("no field %s on the way from the connection's context to its transport", field)
		}
	}
	if v.Kind() != reflect.Uint32 || !v.CanAddr() {
		return fmt.Errorf("maxStreams is a %v, want a uint32", v.Kind())
	}
	*(*uint32)(unsafe.Pointer(v.UnsafeAddr())) = n
	return nil
}
