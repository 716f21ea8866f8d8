package handler_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/race"
)

// refuser is a server that refuses every stream, and keeps nothing of any.
type refuser struct {
	addr    string
	streams atomic.Int64 // that were refused
}

func startRefuser(t testing.TB) *refuser {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &refuser{addr: ln.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { r.serve(nc) })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return r
}

// serve ends when the client closes the connection.
func (r *refuser) serve(nc net.Conn) {
	defer nc.Close()
	if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	fr := http2.NewFramer(nc, nc)
	_ = fr.WriteSettings()
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = fr.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				_ = fr.WritePing(true, f.Data)
			}
		case *http2.HeadersFrame:
			r.streams.Add(1)
			_ = fr.WriteRSTStream(f.StreamID, http2.ErrCodeRefusedStream)
		}
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A call may wait for hours: what it keeps does not grow with its tries.
func TestRoom_TriesThatAreOverAreNotKept(t *testing.T) {
	for _, policy := range []string{"", ", hedge: {delay: 1h}"} {
		t.Run(policy, func(t *testing.T) {
			defer handler.SetRoomBackoff(spec.Backoff{Base: time.Millisecond, Max: time.Millisecond})()
			server := startRefuser(t)
			r := startRouted(t, fmt.Sprintf("{name: a, match: [{method: '*'}], backends: [{endpoints: [{address: %q}]}]%s}", server.addr, policy), nil)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			var calls sync.WaitGroup
			for range 20 {
				calls.Go(func() {
					_, err := handlertest.Unary(ctx, r.cc, "/s/m", []byte("hello"))
					require.Equal(t, codes.Canceled, status.Code(err))
				})
			}
			after := func(tries int64) int64 {
				require.Eventually(t, func() bool { return server.streams.Load() > tries }, 2*time.Minute, time.Millisecond)
				return heap()
			}
			tries := race.Choose[int64](10_000, 2_000)
			begin := after(1000)
			grown := after(1000+tries) - begin
			cancel()
			calls.Wait()
			r.requireIdle(t)
			require.Less(t, grown/tries, int64(300), "bytes a try")
		})
	}
}
