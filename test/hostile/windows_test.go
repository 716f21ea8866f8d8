package hostile

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/testbed"
)

const maxWindow = 1<<31 - 1 // RFC 9113 §6.9.1

// windowMistakes are frames that leave no window as it must be (RFC 9113 §6.9).
func windowMistakes() []mistake {
	return []mistake{
		{"WINDOW_UPDATE over 2^31-1 on the connection", open, windowUpdate(0, maxWindow), ofConn, flowControl},
		{"WINDOW_UPDATEs over 2^31-1 on the connection", open, slices.Concat(windowUpdate(0, maxWindow-65535), windowUpdate(0, 1)), ofConn, flowControl},
		{"WINDOW_UPDATEs up to 2^31-1 on the connection", open, windowUpdate(0, maxWindow-65535), none, 0},
		{"WINDOW_UPDATE over 2^31-1 on a stream", open, windowUpdate(1, maxWindow), ofStream, flowControl},
		{"WINDOW_UPDATE over 2^31-1 on a stream whose request has ended", halfClosed, windowUpdate(1, maxWindow), ofStream, flowControl},
		{"WINDOW_UPDATE up to 2^31-1 on a stream", open, windowUpdate(1, maxWindow-65535), none, 0},
		{"WINDOW_UPDATE of 0 on the connection", open, windowUpdate(0, 0), ofConn, protocol},
		{"WINDOW_UPDATE of 0 on a stream", open, windowUpdate(1, 0), ofStream, protocol},
		{"WINDOW_UPDATE of 0 with the reserved bit", open, windowUpdate(1, 1<<31), ofStream, protocol},
		{"SETTINGS_INITIAL_WINDOW_SIZE 2^31", open, settings(http2.SettingInitialWindowSize, 1<<31), ofConn, flowControl},
		{"SETTINGS_INITIAL_WINDOW_SIZE 2^32-1", idle, settings(http2.SettingInitialWindowSize, 1<<32-1), ofConn, flowControl},
		// RFC 9113 §6.9.2: the change takes a stream's window over 2^31-1.
		{"SETTINGS_INITIAL_WINDOW_SIZE over a window that was raised", open,
			slices.Concat(windowUpdate(1, 1<<20), settings(http2.SettingInitialWindowSize, maxWindow)), ofConn, flowControl},
		{"SETTINGS_INITIAL_WINDOW_SIZE 0 and back", open,
			slices.Concat(settings(http2.SettingInitialWindowSize, 0), settings(http2.SettingInitialWindowSize, 65535)), none, 0},
	}
}

// overflow sends more DATA than a stream's window, while the endpoint takes only the first of it.
func overflow(t *testing.T, w *world, upstream *testbed.H2Server, way way) {
	c := testbed.DialH2(t, w.proxy.Addr)
	s := c.Open(t, to(way.of(stuckMethod)))
	up := upstream.Accept(t)
	data := frame(http2.FrameData, 0, s.ID, slices.Concat(testbed.Prefix(0, 1<<20), make([]byte, maxFrame-5))...)
	rest := frame(http2.FrameData, 0, s.ID, make([]byte, maxFrame)...)
	const windows = 256<<10 + 65535 // framegate's and the endpoint's
	require.NoError(t, c.WriteBytes(append(data, slices.Repeat(rest, windows/maxFrame+2)...)))
	wantStreamError(t, s, flowControl)
	code, _ := up.AwaitReset()
	require.Equal(t, http2.ErrCodeCancel, code)
}

// stuckMethod is of an endpoint that gives no credit.
const stuckMethod = "/hostile.Stuck/Call"
