package pool

import (
	"reflect"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// setNextStreamID makes Kitex's transport go on with a stream identifier, as if all before were used. Nobody may open
// streams meanwhile.
func setNextStreamID(t *testing.T, c *conn, id uint32) {
	t.Helper()
	f := reflect.ValueOf(c.tr).Elem().FieldByName("tr").Elem().Elem().FieldByName("nextID")
	require.True(t, f.IsValid() && f.Kind() == reflect.Uint32, "Kitex's http2Client has no field nextID uint32 any more")
	*(*uint32)(unsafe.Pointer(f.UnsafeAddr())) = id
}
