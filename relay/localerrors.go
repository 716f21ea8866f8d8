package relay

import (
	"strconv"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/relay/h2/hpack"
	"github.com/framegate/framegate/resolver/plain"
)

// localHeaders is how many of the fields of a local error come before those of its trailers.
const localHeaders = 2

// localErrors are the fields of late local errors: the same few come again and again, most of all when there is no time to lose.
type localErrors map[local.Error][]*hpack.Field

// The bounds of localErrors.
const (
	maxLocal        = 128
	maxLocalMessage = 512
)

// fields returns the fields of a local error, as an answer of trailers only. The caller leaves the slice as it is.
func (l localErrors) fields(e *local.Error) []*hpack.Field {
	if fields, ok := l[*e]; ok {
		return fields
	}
	fields := []*hpack.Field{fieldOK, fieldGRPC, statusField(e.Code), hpack.NewField("grpc-message", plain.Percent(e.Error()), false)}
	for name, values := range e.Trailer() {
		for _, v := range values {
			fields = append(fields, hpack.NewField(name, v, false))
		}
	}
	if len(e.Message) <= maxLocalMessage {
		if len(l) == maxLocal {
			clear(l)
		}
		l[*e] = fields
	}
	return fields
}

var (
	fieldOK   = hpack.NewField(":status", "200", false)
	fieldGRPC = hpack.NewField("content-type", "application/grpc", false)
)

func statusField(code codes.Code) *hpack.Field {
	return hpack.NewField("grpc-status", strconv.FormatUint(uint64(code), 10), false)
}
