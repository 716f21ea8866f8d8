package handler_test

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/framegate/framegate/test/testbed"
)

// The :authority of a call whose client sends none, and of questions about a schema, is one that strict peers take, also
// where the endpoint is a unix socket, whose path is none.
func TestAuthority_OfUnixSocketsIsLocalhost(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	seen := make(chan []string, 10)
	ln, err := net.Listen("unix", path)
	require.NoError(t, err)
	s := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(stream.Context())
		seen <- md.Get(":authority")
		return nil
	}))
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(s.Stop)
	var without testbed.Fields
	for _, f := range testbed.RequestFields() {
		if f.Name != ":authority" {
			without = append(without, f)
		}
	}
	for name, routes := range map[string]string{"call": testbed.RouteTo("unix:" + path), "reflection": testbed.ReflectedRouteTo("unix:" + path)} {
		t.Run(name, func(t *testing.T) {
			proxy := testbed.NewProxy(t, routes)
			testbed.DialH2(t, proxy.Addr).OpenEnd(t, without).Outcome()
			require.Equal(t, []string{"localhost"}, testbed.Await(t, seen, "the endpoint hears of it"))
		})
	}
}
