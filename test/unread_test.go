package test

import (
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/test/testbed"
)

const (
	unreadTotal  = 8 << 20 // of each answer
	unreadMemory = 4 << 20 // limits.max_buffered_bytes
)

// serveMuch starts a framegate in front of an endpoint with long answers, and counts what the endpoint has sent. keys are further
// keys of the route.
func serveMuch(t *testing.T, keys string) (proxy *testbed.Proxy, sent *atomic.Int64) {
	sent = new(atomic.Int64)
	part := testbed.Frame(make([]byte, 64<<10-5)) // a power of two, prefix included
	server := testbed.ServeH2(t, func(st *testbed.H2Stream) func() {
		return func() {
			if st.TryHeaders(testbed.ResponseFields()) != nil {
				return
			}
			for range unreadTotal / len(part) {
				if st.TrySend(part) != nil {
					return
				}
				sent.Add(int64(len(part)))
			}
			_ = st.TryTrailers(testbed.StatusFields(0, ""))
		}
	})
	return testbed.NewProxy(t, testbed.RouteWith(server.Addr, keys), testbed.On(conf.DataPlaneRelay),
		func(c *conf.Config) { c.Limits.MaxBufferedBytes = unreadMemory }), sent
}

// readsAll makes a call whose whole answer is read.
func readsAll(t *testing.T, client *testbed.H2Conn) {
	t.Helper()
	began := time.Now()
	cs := client.OpenEnd(t, testbed.RequestFields())
	cs.ReadHeaders()
	n := 0
	for {
		m, err := cs.ReadMessage()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		n += 5 + len(m.Payload)
	}
	require.Equal(t, unreadTotal, n)
	require.Equal(t, 0, cs.Outcome().Code())
	require.Less(t, time.Since(began), 2*testbed.Patience)
}

// awaitEnded waits until some of these calls have ended.
func awaitEnded(t *testing.T, calls []*testbed.H2Stream) (ended []*testbed.H2Stream) {
	t.Helper()
	testbed.Poll(t, func() error {
		ended = slices.DeleteFunc(slices.Clone(calls), func(cs *testbed.H2Stream) bool {
			select {
			case <-cs.Over():
				return false
			default:
				return true
			}
		})
		if len(ended) == 0 {
			return fmt.Errorf("none of %d calls that are not read has ended", len(calls))
		}
		return nil
	})
	return ended
}

// A client that takes the DATA of no answer fills what framegate keeps for slow readers. Its calls are ended then, and others go on.
func TestUnread_OneClientDoesNotTakeTheMemoryOfAll(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string]string{"relayed": "", "handled": "retry: {attempts: 2}"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy, _ := serveMuch(t, keys)
			hog := testbed.DialH2(t, proxy.Addr, testbed.HoldWindows())
			var unread []*testbed.H2Stream
			for range 64 {
				unread = append(unread, hog.OpenEnd(t, testbed.RequestFields()))
			}
			for _, cs := range awaitEnded(t, unread) {
				wantLocal(t, cs.Outcome(), 8, "overloaded")
			}
			client := testbed.DialH2(t, proxy.Addr)
			for range 3 {
				readsAll(t, client)
			}
		})
	}
}

// asleep is a connection that reads nothing from its first call on.
type asleep struct {
	net.Conn
	sleeps chan struct{}
	woken  chan struct{}
}

func (a *asleep) Read(p []byte) (int, error) {
	select {
	case <-a.sleeps:
		<-a.woken
	default:
	}
	return a.Conn.Read(p)
}

// Clients that do not read their sockets are closed while they take what others need, long before they would be otherwise.
func TestUnread_SocketsThatNobodyReads(t *testing.T) {
	t.Parallel()
	proxy, sent := serveMuch(t, "")
	const clients = 30
	var unread []*testbed.H2Stream
	var wake []func()
	for range clients {
		nc, err := net.Dial("tcp", proxy.Addr)
		require.NoError(t, err)
		require.NoError(t, nc.(*net.TCPConn).SetReadBuffer(64<<10))
		a := &asleep{nc, make(chan struct{}), make(chan struct{})}
		hog := testbed.NewH2Client(t, a, testbed.Settings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}))
		require.NoError(t, hog.Write(func(fr *http2.Framer) error { return fr.WriteWindowUpdate(0, 1<<30) }))
		close(a.sleeps)
		unread = append(unread, hog.OpenEnd(t, testbed.RequestFields()))
		wake = append(wake, func() { close(a.woken) })
	}
	last := int64(-1)
	for now := sent.Load(); now != last; now = sent.Load() { // until nothing moves any more, and a tick or two have counted it
		last = now
		time.Sleep(3 * time.Second / 2)
	}
	client := testbed.DialH2(t, proxy.Addr)
	for range 3 {
		readsAll(t, client)
	}
	for _, f := range wake {
		f()
	}
	awaitEnded(t, unread)
}
