package test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/test/testbed"
)

const (
	halfWindow = 65535    // that a client has given if it says nothing of it (RFC 9113 §6.9.2)
	halfLen    = 40 << 10 // of each message, prefix included: the window ends within the second
)

// serveHalf starts a framegate in front of an endpoint that sends messages until it is told to end, and says so then. keys are further
// keys of the route.
func serveHalf(t *testing.T, keys string) (proxy *testbed.Proxy, ended chan struct{}) {
	ended = make(chan struct{}, 2)
	server := testbed.ServeH2(t, func(st *testbed.H2Stream) func() {
		return func() {
			err := st.TryHeaders(testbed.ResponseFields())
			for err == nil {
				err = st.TrySend(testbed.Frame(make([]byte, halfLen-5)))
			}
			ended <- struct{}{}
		}
	})
	return testbed.NewProxy(t, testbed.RouteWith(server.Addr, keys), testbed.On(conf.DataPlaneRelay)), ended
}

// credit lets the other side send n more bytes.
func credit(t *testing.T, cs *testbed.H2Stream, n uint32) {
	t.Helper()
	require.NoError(t, cs.Conn().Write(func(fr *http2.Framer) error {
		return errors.Join(fr.WriteWindowUpdate(0, n), fr.WriteWindowUpdate(cs.ID, n))
	}))
}

// awaitHalf waits until as many calls have ended at the endpoint of serveHalf.
func awaitHalf(t *testing.T, ended <-chan struct{}, calls int) {
	t.Helper()
	for range calls {
		testbed.Await(t, ended, "the end of a call")
	}
}

// A status of framegate's own, for which DATA that waits for the client is dropped, comes behind a whole message if the client goes on to
// read. Otherwise it comes all the same.
func TestHalfMessage_IsEndedBeforeALocalStatus(t *testing.T) {
	t.Parallel()
	for path, keys := range map[string]string{"relayed": "", "handled": "\n  retry: {attempts: 2}"} {
		for reason, code := range map[string]int{"timeout": 4, "idle_timeout": 4, "max_stream_age": 14} {
			t.Run(path+"/"+reason, func(t *testing.T) {
				t.Parallel()
				proxy, ended := serveHalf(t, reason+": 500ms"+keys)
				reader, sleeper := testbed.DialH2(t, proxy.Addr, testbed.HoldWindows()), testbed.DialH2(t, proxy.Addr, testbed.HoldWindows())
				reads, sleeps := reader.OpenEnd(t, testbed.RequestFields()), sleeper.OpenEnd(t, testbed.RequestFields())
				reads.AwaitBytes(halfWindow)
				sleeps.AwaitBytes(halfWindow)
				awaitHalf(t, ended, 2)

				credit(t, reads, 1<<20)
				reads.ReadHeaders()
				for range 2 {
					m, err := reads.ReadMessage()
					require.NoError(t, err)
					require.Len(t, m.Payload, halfLen-5)
				}
				_, err := reads.ReadMessage()
				require.Equal(t, io.EOF, err, "nothing but the rest of the message was kept")
				wantLocal(t, reads.Outcome(), code, reason)
				wantLocal(t, sleeps.Outcome(), code, reason)
			})
		}
	}
}

// The first status of framegate's own stands, while the client reads what comes before it.
func TestHalfMessage_NoLaterErrorTakesTheFirstOnesPlace(t *testing.T) {
	t.Parallel()
	for path, keys := range map[string]string{"relayed": "", "handled": "retry: {attempts: 2}"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			proxy, ended := serveHalf(t, keys)
			cs := testbed.DialH2(t, proxy.Addr, testbed.HoldWindows()).Open(t, testbed.RequestFields())
			cs.AwaitBytes(halfWindow)
			cs.SendTrailers(testbed.RequestFields("x-long", strings.Repeat("v", 80<<10))[len(testbed.RequestFields()):])
			awaitHalf(t, ended, 1)
			credit(t, cs, 1<<20)
			wantLocal(t, cs.Outcome(), 8, "headers_too_large")
		})
	}
}
