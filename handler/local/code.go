package local

import "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

// codeNames are the names of gRPC's status codes (grpc/grpc, doc/statuscodes.md), by number.
var codeNames = [...]string{
	codes.OK: "OK", codes.Canceled: "CANCELLED", codes.Unknown: "UNKNOWN", codes.InvalidArgument: "INVALID_ARGUMENT",
	codes.DeadlineExceeded: "DEADLINE_EXCEEDED", codes.NotFound: "NOT_FOUND", codes.AlreadyExists: "ALREADY_EXISTS",
	codes.PermissionDenied: "PERMISSION_DENIED", codes.ResourceExhausted: "RESOURCE_EXHAUSTED",
	codes.FailedPrecondition: "FAILED_PRECONDITION", codes.Aborted: "ABORTED", codes.OutOfRange: "OUT_OF_RANGE",
	codes.Unimplemented: "UNIMPLEMENTED", codes.Internal: "INTERNAL", codes.Unavailable: "UNAVAILABLE",
	codes.DataLoss: "DATA_LOSS", codes.Unauthenticated: "UNAUTHENTICATED",
}

// OtherCode is the CodeName of every code that gRPC does not define.
const OtherCode = "other"

// CodeName returns gRPC's name of a code, such as NOT_FOUND, or OtherCode.
func CodeName(c codes.Code) string {
	if uint64(c) < uint64(len(codeNames)) {
		return codeNames[c]
	}
	return OtherCode
}
