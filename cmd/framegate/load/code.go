package load

import (
	"errors"
	"fmt"

	"github.com/cloudwego/kitex/pkg/kerrors"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
)

// codeNames are the names of gRPC's status codes (grpc/grpc, doc/statuscodes.md), by number.
var codeNames = [...]string{
	codes.OK: "OK", codes.Canceled: "CANCELLED", codes.Unknown: "UNKNOWN", codes.InvalidArgument: "INVALID_ARGUMENT",
	codes.DeadlineExceeded: "DEADLINE_EXCEEDED", codes.NotFound: "NOT_FOUND", codes.AlreadyExists: "ALREADY_EXISTS",
	codes.PermissionDenied: "PERMISSION_DENIED", codes.ResourceExhausted: "RESOURCE_EXHAUSTED",
	codes.FailedPrecondition: "FAILED_PRECONDITION", codes.Aborted: "ABORTED", codes.OutOfRange: "OUT_OF_RANGE",
	codes.Unimplemented: "UNIMPLEMENTED", codes.Internal: "INTERNAL", codes.Unavailable: "UNAVAILABLE",
	codes.DataLoss: "DATA_LOSS", codes.Unauthenticated: "UNAUTHENTICATED",
}

func codeName(c codes.Code) string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("CODE(%d)", uint32(c))
}

// codeOf names the gRPC status code that err is, BIZ_STATUS(n) if it is a Kitex business error. A connection that cannot be opened or
// that broke is UNAVAILABLE, as in grpc-go; Kitex gives no status to the first of these.
func codeOf(err error) string {
	var biz kerrors.BizStatusErrorIface
	if errors.As(err, &biz) {
		return fmt.Sprintf("BIZ_STATUS(%d)", biz.BizStatusCode())
	}
	var st status.Iface
	if errors.As(err, &st) {
		return codeName(st.GRPCStatus().Code())
	}
	var broken grpc.ConnectionError
	switch {
	case errors.As(err, &broken), errors.Is(err, kerrors.ErrGetConnection):
		return codeName(codes.Unavailable)
	case kerrors.IsTimeoutError(err):
		return codeName(codes.DeadlineExceeded)
	}
	return codeName(codes.Unknown)
}
