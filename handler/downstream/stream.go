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

// Stream is the client's side of a call: the HTTP/2 stream, and the transport of its connection. Kitex passes neither to the
// handler of an unknown method, which without them could not send headers before the first message or end a call with a
// status of its own choice.
type Stream struct {
	Transport grpc.ServerTransport
	Stream    *grpc.Stream
}

// serverConnLayout has the fields of nphttp2's unexported serverConn, in its order.
type serverConnLayout struct {
	tr grpc.ServerTransport
	s  *grpc.Stream
}

// The offsets in grpc.Stream of its state and of its queue of received data. CheckLayout verifies both fields.
var (
	streamStateOffset = streamOffset("state")
	streamQueueOffset = streamOffset("buf")
)

func streamOffset(field string) uintptr {
	f, _ := reflect.TypeFor[grpc.Stream]().FieldByName(field)
	return f.Offset
}

// stateReadDone is the state of a grpc.Stream whose client has half-closed: streamReadDone in Kitex's transport.go.
const stateReadDone = 2

// CheckLayout returns an error if the fields of Kitex's types that this package reads by their offsets are not those of Kitex
// v0.16.3. A binary must call it before it serves, and refuse to start on an error.
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

// serverConnType is the type of serverConn that New has checked. The type is unexported, so it is only known from a value.
var serverConnType atomic.Pointer[reflect.Type]

// New returns the Stream of the value that Kitex passes to a handler of unknown methods. It fails for a value of another
// kind, or of another Kitex than CheckLayout accepts.
func New(st streaming.Stream) (Stream, error) {
	//lint:ignore SA1019 Its replacement, generic services, decodes messages; nothing else gives access to the frames.
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

// RequestEnded reports whether the client has half-closed. If so, the rest of the request is in memory, at most as much as a
// stream's flow-control window.
func (d Stream) RequestEnded() bool {
	return atomic.LoadUint32((*uint32)(unsafe.Add(unsafe.Pointer(d.Stream), streamStateOffset))) == stateReadDone
}

// RequestEmpty reports whether the client has half-closed without sending any data. It must be called before the first read.
// A request that is empty must not be read: when END_STREAM came with the HEADERS, Kitex puts no end of stream into the
// queue, and a read would wait until the call ends.
func (d Stream) RequestEmpty() bool {
	if !d.RequestEnded() {
		return false
	}
	queue := *(*unsafe.Pointer)(unsafe.Add(unsafe.Pointer(d.Stream), streamQueueOffset))
	return len(*(*chan struct{})(queue)) == 0
}

// Piece returns n bytes for Write.
func (d *Stream) Piece(n int) []byte { return frame.RecycledPiece(n) }

// Write sends p as DATA, blocking while the client's flow-control window is full. It takes p over, which Piece must have
// returned.
func (d *Stream) Write(p []byte) error { return d.Transport.Write(d.Stream, nil, p, nil) }

// End ends the call with a status. Later calls of End and EndLocal do nothing.
func (d Stream) End(st *status.Status) { _ = d.Transport.WriteStatus(d.Stream, st) }

// EndLocal ends the call with a local error.
func (d Stream) EndLocal(e *local.Error) {
	_ = d.Stream.SetTrailer(e.Trailer())
	d.End(status.New(e.Code, e.Error()))
}
