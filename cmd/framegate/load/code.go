package load

import (
	"errors"
	"fmt"

	"github.com/cloudwego/kitex/pkg/kerrors"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"

	"github.com/framegate/framegate/handler/local"
)

func codeName(c codes.Code) string {
	if name := local.CodeName(c); name != local.OtherCode {
		return name
	}
	return fmt.Sprintf("CODE(%d)", uint32(c))
}

// codeOf returns the name of err's gRPC status code, or BIZ_STATUS(n) for a Kitex business error. As in grpc-go, a connection that
// cannot be opened or that breaks is UNAVAILABLE; Kitex has no status for one that cannot be opened.
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
