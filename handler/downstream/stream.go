package downstream

import (
	"fmt"
	"reflect"
	"sync/atomic"
	"unsafe"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/pkg/streaming"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/local"
)

// Stream is the client's side of a call: the stream and the transport of the connection it came on. Kitex keeps
// both from the handler of an unknown method, which can neither send headers early nor end a call with a status of its
// own; this file is the one place that takes them.
type Stream struct {
	Transport grpc.ServerTransport
	Stream    *grpc.Stream
}

// serverConnLayout is the layout of nphttp2's unexported serverConn.
type serverConnLayout struct {
	tr grpc.ServerTransport
	s  *grpc.Stream
}

// Where grpc.Stream keeps its state and its queue of received data; CheckLayout verifies both.
var (
	streamStateOffset = streamOffset("state")
	streamQueueOffset = streamOffset("buf")
)

func streamOffset(field string) uintptr {
	f, _ := reflect.TypeFor[grpc.Stream]().FieldByName(field)
	return f.Offset
}

// Values of grpc.Stream's state, in the order of transport.go.
const stateReadDone = 2

// CheckLayout reports whether the fields of Kitex's types that this package reads by their place are where they were in
// v0.16.3. A binary must call it before it serves and refuse to start on an error.
func CheckLayout() error {
	t := reflect.TypeFor[grpc.Stream]()
	if f, ok := t.FieldByName("state"); !ok || f.Type.Kind() != reflect.Uint32 {
		return fmt.Errorf("kitex nphttp2 %v: want a field state of kind uint32", t)
	}
	f, ok := t.FieldByName("buf")
	if !ok || f.Type.Kind() != reflect.Pointer || f.Type.Elem().Kind() != reflect.Struct || f.Type.Elem().Field(0).Type.Kind() != reflect.Chan {
		return fmt.Errorf("kitex nphttp2 %v: want a field buf that points to a struct with a channel first", t)
	}
	return nil
}

// serverConnType is checked on the first call, because the type cannot be named before there is a value of it.
var serverConnType atomic.Pointer[reflect.Type]

// New takes the stream and transport out of what Kitex hands to a handler of unknown methods.
func New(st streaming.Stream) (Stream, error) {
	//lint:ignore SA1019 What it is deprecated for, generic services, decodes; there is no other way to the frames.
	c, err := nphttp2.GetServerConn(st)
	if err != nil {
		return Stream{}, err
	}
	t := reflect.TypeOf(c)
	if known := serverConnType.Load(); known == nil || *known != t {
		if err := checkServerConn(t); err != nil {
			return Stream{}, err
		}
		serverConnType.Store(&t)
	}
	type iface struct{ _, data unsafe.Pointer }
	l := (*serverConnLayout)((*iface)(unsafe.Pointer(&c)).data)
	return Stream{Transport: l.tr, Stream: l.s}, nil
}

// checkServerConn compares t with *serverConnLayout, field by field.
func checkServerConn(t reflect.Type) error {
	want := reflect.TypeFor[serverConnLayout]()
	if t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct || t.Elem().NumField() != want.NumField() {
		return fmt.Errorf("kitex nphttp2: %v, want a pointer to a struct with %d fields", t, want.NumField())
	}
	for i := range want.NumField() {
		got, w := t.Elem().Field(i), want.Field(i)
		if got.Name != w.Name || got.Type != w.Type || got.Offset != w.Offset {
			return fmt.Errorf("kitex nphttp2: field %s %v of %v, want %s %v", got.Name, got.Type, t, w.Name, w.Type)
		}
	}
	return nil
}

// RequestEnded reports whether the client has half-closed. Once it has, all of the request is in memory, at most a
// stream's window of it.
func (d Stream) RequestEnded() bool {
	return atomic.LoadUint32((*uint32)(unsafe.Add(unsafe.Pointer(d.Stream), streamStateOffset))) == stateReadDone
}

// RequestEmpty reports whether the client has half-closed without sending anything. It must be called before the first
// read. Kitex puts no end into the queue when END_STREAM came on the HEADERS, so a read would then wait for the end of
// the call.
func (d Stream) RequestEmpty() bool {
	if !d.RequestEnded() {
		return false
	}
	queue := *(*unsafe.Pointer)(unsafe.Add(unsafe.Pointer(d.Stream), streamQueueOffset))
	return len(*(*chan struct{})(queue)) == 0
}

// Piece returns n bytes for Write.
func (d *Stream) Piece(n int) []byte { return frame.RecycledPiece(n) }

// Write sends p as DATA, blocking while the client's window is full. It takes p over.
func (d *Stream) Write(p []byte) error { return d.Transport.Write(d.Stream, nil, p, nil) }

// End ends the call with a status. Later ends do nothing.
func (d Stream) End(st *status.Status) { _ = d.Transport.WriteStatus(d.Stream, st) }

// EndLocal ends the call with a local error.
func (d Stream) EndLocal(e *local.Error) {
	_ = d.Stream.SetTrailer(e.Trailer())
	d.End(status.New(e.Code, e.Error()))
}
