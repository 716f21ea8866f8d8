package hostile

import (
	"io"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// hole is an endpoint that takes every call and answers none. It hardly looks at what it is sent, so that the calls of attackers
// cost the machine no more than what they cost framegate.
type hole struct {
	ln net.Listener
	wg sync.WaitGroup // the accept loop and the connections

	mu    sync.Mutex // guards conns
	conns []net.Conn
}

func newHole(t *testing.T) *hole {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	h := &hole{ln: ln}
	h.wg.Go(h.accept)
	t.Cleanup(h.close)
	return h
}

func (h *hole) accept() {
	for {
		nc, err := h.ln.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.conns = append(h.conns, nc)
		h.mu.Unlock()
		h.wg.Go(func() {
			defer nc.Close()
			_, _ = nc.Write(slices.Concat(settings(http2.SettingInitialWindowSize, maxWindow), windowUpdate(0, maxWindow-65535), frame(http2.FrameSettings, http2.FlagSettingsAck, 0)))
			_, _ = io.Copy(io.Discard, nc)
		})
	}
}

func (h *hole) address() string { return h.ln.Addr().String() }

// close closes the listener and every connection. It may be called more than once.
func (h *hole) close() {
	_ = h.ln.Close()
	h.mu.Lock()
	for _, nc := range h.conns {
		_ = nc.Close()
	}
	h.mu.Unlock()
	h.wg.Wait()
}
