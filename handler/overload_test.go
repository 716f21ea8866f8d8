package handler_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/transport"
)

// A call that ends with a panic is released as any other.
func TestOverload_CallThatPanicsIsReleased(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]string{
		"route":   "limits: {concurrent: 1}, backends: [{endpoints: [{address: %q}]}]",
		"backend": "backends: [{endpoints: [{address: %q}], limits: {concurrent: 1}}]",
	} {
		t.Run(name, func(t *testing.T) {
			backend := handlertest.Backend(t, handlertest.Echo)
			r := startRouted(t, fmt.Sprintf("{name: r, match: [{method: \"*\"}], "+limits+"}", backend), func(next stream.Opener) stream.Opener {
				return openerFunc(func(ctx context.Context, addr string, hdr *transport.Header, opts pool.OpenOptions) (stream.Upstream, error) {
					return panickingPool{next}.Open(ctx, addr, hdr, opts)
				})
			})
			for _, method := range []string{"/panic/Open", "/panic/Write", "/s/m", "/panic/Open", "/s/m"} {
				want := codes.Internal
				if method == "/s/m" {
					want = codes.OK
				}
				require.Equal(t, want, r.unary(t, method), method)
				r.requireIdle(t)
			}
		})
	}
}

// A refusal costs little, takes nothing and says when to come again.
func TestOverload_RefusedAtOnceWithAHint(t *testing.T) {
	t.Parallel()
	backend := handlertest.Backend(t, saysNothing)
	r := startRouted(t, fmt.Sprintf("{name: r, match: [{method: \"*\"}], limits: {concurrent: 1}, backends: [{endpoints: [{address: %q}]}]}", backend), nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := handlertest.Open(ctx, r.cc, "/s/m")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return r.pool.Stats().Streams == 1 }, patience, time.Millisecond)
	var took []time.Duration
	for range 201 {
		began := time.Now()
		var trailer metadata.MD
		require.Equal(t, codes.ResourceExhausted, r.unary(t, "/s/m", grpc.Trailer(&trailer)))
		took = append(took, time.Since(began))
		require.Equal(t, []string{"overloaded"}, trailer.Get(local.ReasonTrailer))
		require.Equal(t, []string{"100"}, trailer.Get("grpc-retry-pushback-ms"))
	}
	slices.Sort(took)
	require.Less(t, took[len(took)/2], 50*time.Millisecond, "nothing is waited for")
	t.Logf("refused after %s (median), %s (longest)", took[len(took)/2], took[len(took)-1])
	require.Equal(t, 1, r.pool.Stats().Streams)
}
