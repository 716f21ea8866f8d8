package handler

import (
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/pool"
	"github.com/framegate/framegate/pool/kitexconn"
	"github.com/framegate/framegate/resolver/cluster"
)

// Routes that come into force between the two questions are not missed.
func TestProxy_RoutesThatComeDuringACallAreTaken(t *testing.T) {
	t.Parallel()
	backend := startBackend(t, echoOnce)
	pl := pool.New(pool.Config{}, kitexconn.Dialer{}, slog.New(slog.DiscardHandler))
	t.Cleanup(pl.Close)
	var ready, known atomic.Bool
	asked := 0
	cc := startProxy(t, New(Config{
		Router: routerFunc(func(method string) (cluster.Target, bool) {
			return cluster.Target{Route: "r", Address: backend}, known.Load() && method == "/s/known"
		}),
		Ready: func() bool {
			asked++
			known.Store(ready.Load()) // before it is said
			return ready.Load()
		},
		Pool: stream.From(pl.Default()), Log: slog.New(slog.DiscardHandler),
	}))
	_, trailer, err := invoke(t, cc, "/s/known")
	require.Equal(t, codes.Unavailable, status.Code(err), err)
	require.Equal(t, []string{"not_ready"}, trailer.Get(local.ReasonTrailer))
	ready.Store(true)
	_, _, err = invoke(t, cc, "/s/known")
	require.NoError(t, err)
	for range 3 {
		_, trailer, err = invoke(t, cc, "/s/unknown")
		require.Equal(t, codes.Unimplemented, status.Code(err), err)
		require.Equal(t, []string{"no_route"}, trailer.Get(local.ReasonTrailer))
	}
	require.Equal(t, 2, asked, "not again once it was ready")
}
