package acceptor

import (
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDescriptors_ListenersShareABound(t *testing.T) {
	t.Parallel()
	d := NewDescriptors(16) // ten connections
	defer d.Close()
	a := start(t, "127.0.0.1:0", Config{Descriptors: d})
	b := start(t, "127.0.0.1:0", Config{Descriptors: d})
	eventually(t, "the checks of the start have left", func() bool { return taken(d) == 0 })
	var all []net.Conn
	for i := range 10 {
		nc, err := net.Dial("tcp", []string{a.addr, b.addr}[i%2])
		require.NoError(t, err)
		defer nc.Close()
		all = append(all, nc)
	}
	eventually(t, "ten are taken", func() bool { return taken(d) == 10 })
	for _, r := range []*running{a, b} {
		nc, err := net.Dial("tcp", r.addr)
		if err == nil {
			defer nc.Close()
			require.NoError(t, nc.SetReadDeadline(time.Now().Add(waitLimit/2)))
			_, err = nc.Read(make([]byte, 1))
		}
		require.ErrorIs(t, err, syscall.ECONNRESET, "one more is refused")
	}
	require.NoError(t, all[0].Close())
	eventually(t, "one is given back", func() bool { return taken(d) == 9 })
	require.NoError(t, b.check())
	require.NotZero(t, a.acceptor.Stats().Refused)
}

func taken(d *Descriptors) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(time.Millisecond) {
		require.Less(t, time.Since(began), waitLimit, what)
	}
}

// hungry is a listener of a process without a descriptor left, until one is closed.
type hungry struct {
	net.Listener
	d *Descriptors
}

func (h *hungry) Accept() (net.Conn, error) {
	h.d.mu.Lock()
	none := len(h.d.spare) == h.d.keep
	h.d.mu.Unlock()
	if none {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return h.Listener.Accept()
}

// A listener has descriptors of its own when others have taken the rest, and takes them back when they are free.
func TestDescriptors_KeepSomeForListeners(t *testing.T) {
	t.Parallel()
	d := NewDescriptors(64)
	defer d.Close()
	require.Len(t, d.spare, 2)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	for range 2 {
		require.True(t, d.lend())
	}
	require.False(t, d.lend(), "no more than it keeps")
	require.True(t, d.take())
	d.giveBack()
	require.Len(t, d.spare, 2, "refilled when a connection ends")

	r := startOn(t, &hungry{Listener: ln, d: d}, Config{Descriptors: d})
	require.NoError(t, r.check())
}

func TestDescriptors_NilHasNoBound(t *testing.T) {
	t.Parallel()
	var d *Descriptors
	for range 100_000 {
		require.True(t, d.take())
	}
	require.False(t, d.lend())
	d.giveBack()
}
