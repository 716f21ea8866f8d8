package fanout

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/framegate/framegate/test/testbed"
)

// When the client's deadline passes, the call has not succeeded, and nothing is joined of what targets have answered so far: whatever
// the mode, and whoever notices first, the status is that of the deadline.
func TestFanout_StatusAtTheClientsDeadline(t *testing.T) {
	silent := func(s grpc.ServerStream) error {
		<-s.Context().Done()
		return s.Context().Err()
	}
	answers := func(s grpc.ServerStream) error { return testbed.Send(s, nil) }
	for _, mode := range []string{"aggregate", "envelope", "first", "quorum\nquorum: 2"} {
		for _, unary := range []string{"", "\nmethods: {unary: [/echo.Echo/*]}"} {
			t.Run(mode+unary, func(t *testing.T) {
				t.Parallel()
				handlers := []func(grpc.ServerStream) error{answers, silent, silent}
				if mode == "first" {
					handlers[0] = silent
				}
				var list []string
				for _, h := range handlers {
					list = append(list, fmt.Sprintf("{address: %q}", testbed.NewRaw(t, h)))
				}
				p := testbed.NewProxy(t, route("["+strings.Join(list, ", ")+"]", "frame", "mode: "+mode+unary))
				c := testbed.DialH2(t, p.Addr)
				for range 30 {
					s := c.Open(t, testbed.RequestFields("grpc-timeout", "40m"))
					s.SendEnd(testbed.Frame([]byte("x")))
					require.Equal(t, "4", s.Outcome().Trailers.Get("grpc-status"))
				}
			})
		}
	}
}
