package kitexconn

import (
	"fmt"
	"reflect"
	"unsafe"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
)

// CheckLayout returns an error if the field of Kitex's grpc.Stream that this package reads by its offset is not that of
// Kitex v0.16.3. A binary must call it before it serves, and refuse to start on an error.
func CheckLayout() error {
	f, ok := reflect.TypeFor[grpc.Stream]().FieldByName("id")
	if !ok || f.Offset != 0 || f.Type.Kind() != reflect.Uint32 {
		return fmt.Errorf("kitex nphttp2 grpc.Stream: want its first field to be id uint32, found %v", f.Type)
	}
	return nil
}

// streamID returns the HTTP/2 identifier of a stream that NewStream has returned. Kitex does not export it.
func streamID(s *grpc.Stream) uint32 { return *(*uint32)(unsafe.Pointer(s)) }
