package pool

import (
	"fmt"
	"reflect"
	"unsafe"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
)

// CheckLayout reports whether the fields of Kitex's types that this package reads by their place are where they were in
// v0.16.3. A binary must call it before it serves and refuse to start on an error.
func CheckLayout() error {
	f, ok := reflect.TypeFor[grpc.Stream]().FieldByName("id")
	if !ok || f.Offset != 0 || f.Type.Kind() != reflect.Uint32 {
		return fmt.Errorf("kitex nphttp2 grpc.Stream: want its first field to be id uint32, found %v", f.Type)
	}
	return nil
}

// streamID returns the HTTP/2 stream identifier, which Kitex does not export. It is set before NewStream returns.
func streamID(s *grpc.Stream) uint32 { return *(*uint32)(unsafe.Pointer(s)) }
