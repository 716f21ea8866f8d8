package test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/testbed"
)

// Every method name reaches the upstream as it is.
func TestMethod_IsKept(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		for _, path := range []string{"/a.b.c.Service/Method", "/Service/Method", "/a.b.c.Service/method_1"} {
			t.Run(path, func(t *testing.T) {
				_, _, request := p.open(t, testbed.RequestFields().Replace(":path", path))
				require.Equal(t, []string{path}, request.Values(":path"))
			})
		}
	})
}

// framegate has a grpc.health.v1.Health of its own. What only looks like it belongs to the upstream.
func TestMethod_LikeFramegatesOwnIsForwarded(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		for _, path := range []string{
			"/grpc.health.v2.Health/Check", "/my.shop.Health/Check", "/Health/Check", "/my.shop.Checks/Check", "/grpc.health.v1.Health/Other",
		} {
			t.Run(path, func(t *testing.T) {
				p := newRawPair(t, to)
				cs := p.client.Open(t, testbed.RequestFields().Replace(":path", path))
				cs.SendEnd(testbed.Frame(nil))
				ss, o := p.server.AcceptUnless(t, cs)
				if ss == nil {
					t.Fatalf("got an answer that the upstream did not give: %s", o)
				}
				require.Equal(t, []string{path}, ss.ReadHeaders().Values(":path"))
			})
		}
	})
}

// framegate answers for itself when it is asked for its own health, and only then.
func TestMethod_OwnHealthIsNotForwarded(t *testing.T) {
	t.Parallel()
	p := newRawPair(t, proxied)
	for name, c := range map[string]struct {
		request []byte
		code    int
		body    []byte
	}{
		"the server":                            {request: testbed.Frame(nil), body: testbed.Frame([]byte{8, 1})}, // SERVING
		"a service that a route takes calls of": {request: testbed.Frame([]byte("\x0a\x03abc")), body: testbed.Frame([]byte{8, 1})},
		"no service":                            {request: testbed.Frame([]byte("\x0a\x03a/c")), code: 5},
	} {
		t.Run(name, func(t *testing.T) {
			cs := p.client.Open(t, testbed.RequestFields().Replace(":path", "/grpc.health.v1.Health/Check"))
			cs.SendEnd(c.request)
			o := cs.Outcome()
			require.Equal(t, c.code, o.Code(), "grpc-status; got %s", o)
			require.Equal(t, c.body, o.Body)
		})
	}
	t.Run("request of no message", func(t *testing.T) {
		cs := p.client.OpenEnd(t, testbed.RequestFields().Replace(":path", "/grpc.health.v1.Health/Check"))
		if o := cs.Outcome(); o.Code() == 0 {
			t.Errorf("got OK, want an error; %s", o)
		}
	})
}
