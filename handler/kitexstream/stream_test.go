package kitexstream

import (
	"reflect"
	"testing"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/stretchr/testify/require"
)

func TestCheckLayout_AcceptsThisKitex(t *testing.T) {
	require.NoError(t, CheckLayout())
}

func TestCheckServerConn_RefusesAnyOtherLayout(t *testing.T) {
	for name, typ := range map[string]reflect.Type{
		"no pointer":   reflect.TypeFor[Stream](),
		"no struct":    reflect.TypeFor[*int](),
		"a field more": reflect.TypeFor[*struct{ tr, s, more any }](),
		"other names": reflect.TypeFor[*struct {
			s  grpc.ServerTransport
			tr *grpc.Stream
		}](),
		"other types": reflect.TypeFor[*struct {
			tr *grpc.Stream
			s  grpc.ServerTransport
		}](),
	} {
		require.Error(t, checkServerConn(typ), name)
	}
	require.NoError(t, checkServerConn(reflect.TypeFor[*Stream]()))
}
