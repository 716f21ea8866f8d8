package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/test/refusing"
	"github.com/framegate/framegate/test/testbed"
)

// An endpoint that cannot be connected to is not called usable, until it can.
func TestMetrics_EndpointThatCannotBeConnectedTo(t *testing.T) {
	path := "unix:" + t.TempDir() + "/s"
	for _, address := range []string{refusing.Address(t), path} {
		proxy := testbed.NewProxy(t, testbed.RouteTo(address), testbed.Admin())
		state := func(want string) {
			t.Helper()
			counts := map[string]int{want: 1}
			for _, s := range []string{"usable", "unreachable"} {
				wantMetrics(t, proxy, fmt.Sprintf(`framegate_endpoints{backend="",route="all",service="",state=%q,tags=""} %d`, s, counts[s]))
			}
		}
		state("usable") // nobody has asked
		cc := testbed.DialGRPC(t, proxy.Addr)
		call := func() error {
			stream, err := testbed.Call(patient(t), cc)
			if err == nil {
				_ = stream.CloseSend()
				_, err = testbed.Recv(stream)
			}
			return err
		}
		require.Equal(t, codes.Unavailable, status.Code(call()))
		state("unreachable")
		if address != path {
			continue // nobody may listen there
		}
		testbed.NewRawAt(t, "unix", strings.TrimPrefix(path, "unix:"), func(grpc.ServerStream) error { return nil })
		testbed.Poll(t, func() error {
			if err := call(); status.Code(err) == codes.Unavailable {
				return err
			}
			return nil
		})
		state("usable")
	}
}
