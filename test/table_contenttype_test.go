package test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/testbed"
)

func TestContentType_IsKeptBothWays(t *testing.T) {
	t.Parallel()
	eachFramePath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		for _, contentType := range []string{
			"application/grpc", "application/grpc+proto", "application/grpc+json", "application/grpc+thrift",
		} {
			response := testbed.ResponseFields().Replace("content-type", contentType)
			t.Run(contentType+"/headers", func(t *testing.T) {
				cs, ss, request := p.open(t, testbed.RequestFields().Replace("content-type", contentType))
				require.Equal(t, []string{contentType}, request.Values("content-type"), "at the upstream")
				ss.SendHeaders(response)
				ss.SendTrailers(testbed.StatusFields(0, ""))
				require.Equal(t, []string{contentType}, cs.Outcome().Headers.Values("content-type"), "at the client")
			})
			t.Run(contentType+"/trailers only", func(t *testing.T) {
				cs, ss, _ := p.open(t, testbed.RequestFields().Replace("content-type", contentType))
				ss.SendTrailers(append(response, testbed.StatusFields(5, "")...))
				require.Equal(t, []string{contentType}, cs.Outcome().Trailers.Values("content-type"), "at the client")
			})
		}
	})
}

func TestAuthority_IsKept(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		for _, authority := range []string{testbed.Authority, "svc.example.com", "127.0.0.1:1", "[::1]:443"} {
			t.Run(authority, func(t *testing.T) {
				_, _, request := p.open(t, testbed.RequestFields().Replace(":authority", authority))
				require.Equal(t, []string{authority}, request.Values(":authority"))
			})
		}
	})
}

// RFC 9113 §8.3.1: without :authority it is host that names the authority.
func TestAuthority_IsHostWithoutAuthority(t *testing.T) {
	t.Parallel()
	p := newRawPair(t, proxied)
	fields := testbed.NewFields(
		":method", "POST", ":scheme", "http", ":path", testbed.Method,
		"content-type", "application/grpc", "te", "trailers", "host", "by-host.example.com",
	)
	_, _, request := p.open(t, fields)
	require.Equal(t, []string{"by-host.example.com"}, request.Values(":authority"))
	require.Empty(t, request.Values("host"), "host")
}

func TestAuthority_IsReplacedByTheRoute(t *testing.T) {
	t.Parallel()
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteWith(server.Addr, "authority: inside.example.com:8443"))
	p := rawPair{client: testbed.DialH2(t, proxy.Addr), server: server}
	_, _, request := p.open(t, testbed.RequestFields())
	require.Equal(t, []string{"inside.example.com:8443"}, request.Values(":authority"))
}
