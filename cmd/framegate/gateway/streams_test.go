package gateway_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/framegate/framegate/cmd/framegate/gateway"
	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/kitex_gen/echo"
	"github.com/framegate/framegate/test/testbed"
)

// max_concurrent_streams bounds what is worked on for a connection, also when its client resets the streams: HTTP/2 knows
// of no more than there are, but their messages are still being decoded.
func TestListener_StreamsAreCountedUntilTheirWorkHasEnded(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1 << 20, 60 << 10, 10} { // one that takes of the budget, and smaller ones
		t.Run(strconv.Itoa(size), func(t *testing.T) { testStreamsAreCounted(t, size) })
	}
}

func testStreamsAreCounted(t *testing.T, size int) {
	const most = 2
	holding, release := make(chan struct{}, 10), make(chan struct{})
	filter, err := structmode.NewFilter("/echo.Echo/Chat", structmode.Filter[echo.Request, echo.Reply]{
		Request: func(_ context.Context, m *echo.Request) (*echo.Request, error) {
			holding <- struct{}{}
			<-release
			return m, nil
		},
	})
	require.NoError(t, err)
	endpoint := testbed.NewH2Server(t)
	cfg := conf.Default()
	cfg.Listeners[0].Address, cfg.Listeners[0].MaxConcurrentStreams = "127.0.0.1:0", most
	cfg.Admin.Address, cfg.Etcd.Endpoints = "127.0.0.1:0", []string{conf.None}
	cfg.Routes.File = filepath.Join(t.TempDir(), "routes.yaml")
	routes := fmt.Sprintf("routes: [{name: echo, match: [{method: '*'}], mode: struct, backends: [{endpoints: [{address: %q}]}]}]", endpoint.Addr)
	require.NoError(t, os.WriteFile(cfg.Routes.File, []byte(routes), 0o600))
	g, err := gateway.Start(t.Context(), cfg, slog.New(slog.DiscardHandler), gateway.WithFilters(filter))
	require.NoError(t, err)
	t.Cleanup(func() { g.Shutdown(context.Background()) })
	free := sync.OnceFunc(func() { close(release) })
	t.Cleanup(free)

	fields := testbed.RequestFields().Replace(":path", "/echo.Echo/Chat")
	message := testbed.Frame(protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), make([]byte, size)))
	client, other := testbed.DialH2(t, g.Addr("main")), testbed.DialH2(t, g.Addr("main"))
	for range most {
		cs := client.Open(t, fields)
		cs.Send(message)
		testbed.Await(t, holding, "a message that is worked on")
		cs.Reset(http2.ErrCodeCancel)
	}
	for range 5 {
		o := client.Open(t, fields).Outcome()
		require.Equal(t, int(codes.ResourceExhausted), o.Code(), o.String())
		require.Equal(t, "overloaded", o.Reason())
	}
	require.EqualValues(t, most, listenerMetric(t, g, "framegate_listener_calls"))
	require.EqualValues(t, 5, listenerMetric(t, g, "framegate_listener_refused_calls_total"))

	cs := other.Open(t, fields) // which has nothing to do with it
	cs.Send(message)
	testbed.Await(t, holding, "a message of another connection")
	cs.Reset(http2.ErrCodeCancel)

	free()
	testbed.Poll(t, func() error {
		if n := listenerMetric(t, g, "framegate_listener_calls"); n != 0 {
			return fmt.Errorf("%v calls, want none", n)
		}
		return nil
	})
	client.Open(t, fields)
	last := client.Open(t, fields)
	last.Send(testbed.Frame(nil))
	testbed.Await(t, holding, "a message of a call that is not too many")
}

// listenerMetric returns the value of a metric of the only listener.
func listenerMetric(t *testing.T, g *gateway.Gateway, name string) float64 {
	t.Helper()
	resp, err := http.Get("http://" + g.AdminAddr() + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(body), name+`{listener="main"} `)
	require.True(t, ok, name)
	value, _, _ := strings.Cut(rest, "\n")
	v, err := strconv.ParseFloat(value, 64)
	require.NoError(t, err)
	return v
}
