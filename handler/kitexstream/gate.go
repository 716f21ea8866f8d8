package kitexstream

import (
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"

	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/handler/transserver"
)

// Gate decides whether calls are served before they have a goroutine; see handler.Gate.
type Gate interface {
	// Admits reports whether a call is served. conn is stream.Downstream.Conn of the call, and crowded as for transserver.Gate.
	Admits(method string, conn any, crowded bool) bool

	// Refuse ends a call that is not served.
	Refuse(down stream.Downstream)
}

// GateOf returns g for transserver.Config.
func GateOf(g Gate) transserver.Gate {
	return func(tr grpc.ServerTransport, s *grpc.Stream, crowded bool) (refused bool) {
		if g.Admits(s.Method(), tr, crowded) {
			return false
		}
		g.Refuse(&Stream{tr, s})
		return true
	}
}
