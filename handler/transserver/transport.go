package transserver

import (
	"container/list"
	"context"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
)

// transport is Kitex's transport of one connection. Its methods use unexported fields of Kitex's types.
type transport struct {
	kitex *svrTransLayout
}

// svrTransLayout has the fields of nphttp2.SvrTrans, which are unexported, in its order.
type svrTransLayout struct {
	tr         grpc.ServerTransport
	pool       *sync.Pool
	elem       *list.Element
	handlerNum int32
}

// transportOf returns the transport in the context that OnActive has returned. It fails if a type of Kitex is not as in
// Kitex v0.16.3.
func transportOf(ctx context.Context) (transport, error) {
	// *context.valueCtx -> val: *nphttp2.SvrTrans
	v := reflect.ValueOf(ctx)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return transport{}, fmt.Errorf("the connection's context is a %v, want one made by context.WithValue", v.Type())
	}
	val := v.Elem().FieldByName("val")
	if !val.IsValid() || val.Kind() != reflect.Interface || val.Elem().Type() != reflect.TypeFor[*nphttp2.SvrTrans]() {
		return transport{}, fmt.Errorf("the connection's context %v has no field val with a *nphttp2.SvrTrans", v.Type())
	}
	got, want := reflect.TypeFor[nphttp2.SvrTrans](), reflect.TypeFor[svrTransLayout]()
	if got.NumField() != want.NumField() {
		return transport{}, fmt.Errorf("%v has %d fields, want %d", got, got.NumField(), want.NumField())
	}
	for i := range want.NumField() {
		g, w := got.Field(i), want.Field(i)
		if g.Name != w.Name || g.Type != w.Type || g.Offset != w.Offset {
			return transport{}, fmt.Errorf("%v has a field %s %v, want %s %v", got, g.Name, g.Type, w.Name, w.Type)
		}
	}
	return transport{(*svrTransLayout)(val.Elem().UnsafePointer())}, nil
}

// running returns how many calls of the connection have a handler that has not returned.
func (t transport) running() int { return int(atomic.LoadInt32(&t.kitex.handlerNum)) }

// drain tells the client to open no more streams. It sends two GOAWAYs, so that streams that the client opens before it has
// read the first are served (RFC 9113 §6.8). It may be called more than once.
func (t transport) drain() { t.kitex.tr.Drain() }

// limitStreams makes the transport enforce the number of streams that it has announced: it refuses further streams with
// REFUSED_STREAM (RFC 9113 §5.1.2). Kitex v0.16.3 has code for that, but never sets the limit. The transport must not read
// yet. With 0 there is no limit.
func (t transport) limitStreams(n uint32) error {
	if n == 0 {
		return nil
	}
	v := reflect.ValueOf(t.kitex.tr).Elem().FieldByName("maxStreams") // of *grpc.http2Server
	if !v.IsValid() || v.Kind() != reflect.Uint32 || !v.CanAddr() {
		return fmt.Errorf("%T has no field maxStreams that is a uint32", t.kitex.tr)
	}
	*(*uint32)(unsafe.Pointer(v.UnsafeAddr())) = n
	return nil
}

// writer returns the channel that the transport's writer goroutine closes when it ends. It does not close it when it panics.
func (t transport) writer() (done chan struct{}, err error) {
	v := reflect.ValueOf(t.kitex.tr).Elem().FieldByName("writerDone") // of *grpc.http2Server
	if !v.IsValid() || v.Type() != reflect.TypeFor[chan struct{}]() || !v.CanAddr() {
		return nil, fmt.Errorf("%T has no field writerDone that is a chan struct{}", t.kitex.tr)
	}
	return *(*chan struct{})(unsafe.Pointer(v.UnsafeAddr())), nil
}

// gate puts g, which may be nil for none, between the transport and Kitex's handler. maxStreams is how many streams the
// connection may have; 0 means no bound. The transport must not read yet. No other goroutine may use Kitex's transport at
// that moment, not even through the list in which Kitex has it already.
func (t transport) gate(g Gate, maxStreams uint32) {
	if g != nil {
		t.kitex.tr = &gatedTransport{ServerTransport: t.kitex.tr, gate: g, of: t, maxStreams: maxStreams}
	}
}

// Gate decides whether a call is served. It ends a call that is not to be served and reports true, or it reports false. It
// runs in the goroutine that reads the connection, before the call has a goroutine of its own, so it refuses at little cost
// and must not block. tr is the transport that the handler gets, too. crowded says that the connection has as many calls
// whose handlers have not returned as it may have streams; some of these calls may have ended for the client.
type Gate func(tr grpc.ServerTransport, s *grpc.Stream, crowded bool) (refused bool)

// gatedTransport is a transport that calls a gate for each stream.
type gatedTransport struct {
	grpc.ServerTransport
	gate       Gate
	of         transport
	maxStreams uint32 // 0 means no bound
}

// HandleStreams implements grpc.ServerTransport.
func (t *gatedTransport) HandleStreams(handle func(*grpc.Stream), traceCtx func(context.Context, string) context.Context) {
	t.ServerTransport.HandleStreams(func(s *grpc.Stream) {
		crowded := t.maxStreams > 0 && t.of.running() >= int(t.maxStreams)
		if !t.gate(t, s, crowded) {
			handle(s)
		}
	}, traceCtx)
}
