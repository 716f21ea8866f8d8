package mirror

import (
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/handler/leg"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
)

// newTestCopy returns a copy of a call for a backend, whose call is not made.
func newTestCopy(t *testing.T, m *Mirror) *backendCopy {
	m.doc.Backend, m.selection = &spec.MirrorBackend{}, new(Selection) // so that it is not launched before its first message
	b := m.beginBackend(testCall(), false, func() cluster.Target { return cluster.Target{} }, func(md metadata.MD) leg.Request {
		return leg.Request{Method: "/a.B/C", Metadata: md}
	})
	require.NotNil(t, b)
	t.Cleanup(func() { b.end(errNothing) })
	return b
}

// An answer of ordinary length is read at once; what a mirror sends without end is read slowly, of all copies together.
func TestBackendCopy_ReadsLittleOfAFlood(t *testing.T) {
	t.Parallel()
	m := newTestMirror(t, 1<<20)
	m.doc.Compare = nil
	for range 100 {
		b := newTestCopy(t, m)
		begin := time.Now()
		for range freeUnread {
			require.NoError(t, b.Data(make([]byte, 10)))
		}
		require.Less(t, time.Since(begin), time.Second)
	}
	a, b, n := newTestCopy(t, m), newTestCopy(t, m), 0
	begin := time.Now()
	for ; time.Since(begin) < 300*time.Millisecond; n++ {
		require.NoError(t, a.Data(make([]byte, 10)))
		require.NoError(t, b.Data(make([]byte, 3*unreadPortion)))
	}
	require.LessOrEqual(t, float64(n), (2*freeUnread+unreadPerSecond/10+1.2*unreadPerSecond*time.Since(begin).Seconds())/5)

	ended := make(chan error)
	go func() {
		for {
			if err := a.Data(make([]byte, 1<<20)); err != nil {
				ended <- err
				return
			}
		}
	}()
	a.leg.Cancel(errLate)
	require.Error(t, <-ended)
}

// What is compared is read at once, until a difference is found.
func TestBackendCopy_ReadsSlowlyWhatIsNotComparedAnyMore(t *testing.T) {
	t.Parallel()
	m := newTestMirror(t, 1<<30)
	m.doc.Queue = spec.Queue{Messages: 10_000, Bytes: 1 << 20}
	b := newTestCopy(t, m)
	piece := []byte{0, 0, 0, 0, 1, 'x'}
	for range 2 * freeUnread {
		require.NoError(t, b.Data(piece))
	}
	require.Zero(t, b.unread)
	require.NoError(t, b.compare.client.Data([]byte{0, 0, 0, 0, 1, 'y'}))
	require.Eventually(t, func() bool { return m.Status().Compared[Different] == 1 }, 10*time.Second, time.Millisecond)
	require.NoError(t, b.Data(piece))
	require.Equal(t, 1, b.unread)
}
