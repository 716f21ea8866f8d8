package kitexstream

import (
	"context"
	"fmt"
	"net"
	"reflect"
	"sync/atomic"
	"unsafe"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/pkg/streaming"

	"github.com/framegate/framegate/handler/frame"
	"github.com/framegate/framegate/handler/stream"
)

// Stream implements stream.Downstream. It has the fields of nphttp2's unexported serverConn, in its order, so that the one
// that Kitex has made is used as it is.
type Stream struct {
	tr grpc.ServerTransport
	s  *grpc.Stream
}

var _ stream.Downstream = (*Stream)(nil)

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

// serverConnType is the type of serverConn that streamOf has checked. The type is unexported, so it is only known from a value.
var serverConnType atomic.Pointer[reflect.Type]

// Handler returns the handler for server.WithGRPCUnknownServiceHandler that passes each call to serve. serve sends every call
// its result itself, and so the handler returns an error only for a stream that is not Kitex's.
func Handler(serve func(stream.Downstream)) func(context.Context, string, streaming.Stream) error {
	return func(_ context.Context, _ string, st streaming.Stream) error {
		s, err := streamOf(st)
		if err != nil {
			return err
		}
		serve(s)
		return nil
	}
}

// streamOf returns the Stream of the value that Kitex passes to a handler of unknown methods. It fails for a value of another
// kind, or of another Kitex than CheckLayout accepts.
func streamOf(st streaming.Stream) (*Stream, error) {
	//lint:ignore SA1019 Its replacement, generic services, decodes messages; nothing else gives access to the frames.
	c, err := nphttp2.GetServerConn(st)
	if err != nil {
		return nil, err
	}
	t := reflect.TypeOf(c)
	if known := serverConnType.Load(); known == nil || *known != t {
		if err := checkServerConn(t); err != nil {
			return nil, err
		}
		serverConnType.Store(&t)
	}
	type iface struct{ _, data unsafe.Pointer }
	return (*Stream)((*iface)(unsafe.Pointer(&c)).data), nil
}

// checkServerConn compares t with *Stream, field by field.
func checkServerConn(t reflect.Type) error {
	want := reflect.TypeFor[Stream]()
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

// Context implements stream.Downstream.
func (s *Stream) Context() context.Context { return s.s.Context() }

// Method implements stream.Downstream.
func (s *Stream) Method() string { return s.s.Method() }

// Metadata implements stream.Downstream.
func (s *Stream) Metadata() metadata.MD {
	md, _ := metadata.FromIncomingContext(s.s.Context())
	return md
}

// ContentSubtype implements stream.Downstream.
func (s *Stream) ContentSubtype() string { return s.s.ContentSubtype() }

// Encoding implements stream.Downstream.
func (s *Stream) Encoding() string { return s.s.RecvCompress() }

// AcceptEncoding implements stream.Downstream.
func (s *Stream) AcceptEncoding() string { return s.s.SendCompress() }

// RemoteAddr implements stream.Downstream.
func (s *Stream) RemoteAddr() net.Addr { return s.tr.RemoteAddr() }

// Conn implements stream.Downstream.
func (s *Stream) Conn() any { return s.tr }

// RequestEnded implements stream.Downstream.
func (s *Stream) RequestEnded() bool {
	return atomic.LoadUint32((*uint32)(unsafe.Add(unsafe.Pointer(s.s), streamStateOffset))) == stateReadDone
}

// RequestEmpty implements stream.Downstream. When END_STREAM came with the HEADERS, Kitex puts no end of stream into the
// queue, and a read would wait until the call ends.
func (s *Stream) RequestEmpty() bool {
	if !s.RequestEnded() {
		return false
	}
	queue := *(*unsafe.Pointer)(unsafe.Add(unsafe.Pointer(s.s), streamQueueOffset))
	return len(*(*chan struct{})(queue)) == 0
}

// Read implements stream.Downstream.
func (s *Stream) Read(p []byte) (int, error) { return s.s.Read(p) }

// Piece implements stream.Downstream.
func (s *Stream) Piece(n int) []byte { return frame.RecycledPiece(n) }

// Write implements stream.Downstream.
func (s *Stream) Write(p []byte) error { return s.tr.Write(s.s, nil, p, nil) }

// SendHeaders implements stream.Downstream.
func (s *Stream) SendHeaders(encoding string, md metadata.MD) error {
	s.s.SetSendCompress(encoding)
	return s.s.SendHeader(md)
}

// End implements stream.Downstream.
func (s *Stream) End(st *status.Status, trailer metadata.MD) {
	_ = s.s.SetTrailer(trailer) // which copies the map, and fails only when the stream has ended
	_ = s.tr.WriteStatus(s.s, st)
}
