package handler_test

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/routetest"
)

// What is kept of requests in case that they are sent again has a part of the budget. A call for which there is no room in
// it goes on, and is not sent again.
func TestRetry_WhatIsKeptHasABound(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20 // the part is two of these
	received := func(stream grpc.ServerStream) (n int, err error) {
		for {
			var m []byte
			if err := stream.RecvMsg(&m); errors.Is(err, io.EOF) {
				return n, nil
			} else if err != nil {
				return n, err
			}
			n += len(m)
		}
	}
	answer := func(stream grpc.ServerStream, who string) error {
		m := []byte(who)
		return stream.SendMsg(&m)
	}
	for name, c := range map[string]struct {
		keys  string
		first func(stream grpc.ServerStream, n int) error // what the first attempt does once the request is there
		long  codes.Code                                  // of a call that is too long to be sent again
	}{
		"retry": {
			"retry: {attempts: 2, codes: [UNAVAILABLE], buffer_bytes: 8388608, budget: {min: 1000}, backoff: {base: 1ms}}",
			func(grpc.ServerStream, int) error { return status.Error(codes.Unavailable, "once more") }, codes.Unavailable,
		},
		"hedge": {
			"hedge: {delay: 1ms, buffer_bytes: 8388608, budget: {min: 1000}}",
			func(stream grpc.ServerStream, n int) error {
				if n > 2*mib {
					return answer(stream, "first")
				}
				<-stream.Context().Done()
				return nil
			}, codes.OK,
		},
	} {
		t.Run(name, func(t *testing.T) {
			held, release := make(chan struct{}), make(chan struct{})
			backend := handlertest.Backend(t, func(stream grpc.ServerStream) error {
				if !isFurther(stream) {
					n, err := received(stream)
					if err != nil {
						return err
					}
					if n == mib*3/2 {
						held <- struct{}{}
						<-release
					}
					return c.first(stream, n)
				}
				if _, err := received(stream); err != nil {
					return err
				}
				return answer(stream, "second")
			})
			doc, err := spec.ParseRoute([]byte(routetest.Doc("r", "*", routetest.Backend(routetest.NeverEjected, backend), c.keys)))
			require.NoError(t, err)
			r := resolver.New(handlertest.Listener)
			t.Cleanup(r.Close)
			r.Apply("test", resolver.Bind(doc))
			p, cc := handlertest.Start(t, handler.Config{Router: r, MaxDecodedBytes: 2 * budget.MinBytes})
			call := func(n int) (string, error) {
				reply, err := handlertest.Unary(timeout(t), cc, "/s/m", make([]byte, n))
				return string(reply), err
			}
			for range 3 {
				for _, n := range []int{10, 100 << 10, mib} {
					who, err := call(n)
					require.NoError(t, err, "%d bytes", n)
					require.Equal(t, "second", who, "%d bytes", n)
				}
				_, err := call(3 * mib) // with hedging, whichever attempt is ahead when there is no more room gets all of it
				require.Equal(t, c.long, status.Code(err), "%v", err)
			}
			require.Eventually(t, func() bool { return p.Decoding().Used == 0 }, patience, time.Millisecond, "all is given back")
			if name == "hedge" { // which answers while its first attempt waits
				return
			}
			done := make(chan error, 1)
			go func() {
				_, err := call(mib * 3 / 2)
				done <- err
			}()
			<-held
			require.Greater(t, p.Decoding().Used, int64(mib))
			_, err = call(mib)
			require.Equal(t, codes.Unavailable, status.Code(err), "there is no room beside another's")
			close(release)
			require.NoError(t, <-done)
			require.Eventually(t, func() bool { return p.Decoding().Used == 0 }, patience, time.Millisecond)
			_, err = call(mib)
			require.NoError(t, err)
		})
	}
}
