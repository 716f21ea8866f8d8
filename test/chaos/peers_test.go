package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/test/testbed"
)

// Clients that are slow, or gone without a word, are nobody's loss but theirs.

const (
	peersOfAKind = 10
	slowStep     = 100 * time.Millisecond
	slowMessage  = 64 << 10
	slowAnswers  = 100 // 6.4 MB: more than all windows on the way hold
)

// readSlowly reads an answer now and then, until ctx ends, and wants each to be whole.
func readSlowly(ctx context.Context, cc *grpc.ClientConn) error {
	ctx = metadata.AppendToOutgoingContext(ctx, CountKey, strconv.Itoa(slowAnswers))
	stream, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, ServerMethod)
	if err != nil {
		return err
	}
	if err := errors.Join(stream.SendMsg(wrapperspb.Bytes(make([]byte, slowMessage))), stream.CloseSend()); err != nil {
		return err
	}
	for n := 0; ; n++ {
		m := new(wrapperspb.BytesValue)
		if err := stream.RecvMsg(m); err != nil || len(m.Value) != slowMessage {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("answer %d of %d bytes, want %d: %w", n, len(m.Value), slowMessage, err)
		}
		if wait(ctx, slowStep) != nil {
			return nil
		}
	}
}

// writeSlowly sends a message byte by byte until ctx ends.
func writeSlowly(ctx context.Context, st *testbed.H2Stream) error {
	if err := st.TrySend(testbed.Prefix(0, slowMessage)); err != nil {
		return err
	}
	for wait(ctx, slowStep) == nil {
		if err := st.TrySend([]byte{0}); err != nil {
			return err
		}
	}
	return nil
}

func TestSlowPeers_HoldUpNobodyElse(t *testing.T) {
	t.Parallel()
	backends := three(t)
	s := begin(t, defaults, asServers(backends)...)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2*peersOfAKind)
	s.fault(func() {
		for range peersOfAKind {
			cc := Dial(t, s.addr)
			go func() { ended <- readSlowly(ctx, cc) }()
			st := testbed.DialH2(t, s.addr).Open(t, testbed.RequestFields().Replace(":path", ClientMethod))
			go func() { ended <- writeSlowly(ctx, st) }()
		}
	})
	s.load.Run(after)
	cancel()
	for range 2 * peersOfAKind {
		require.NoError(t, testbed.Await(t, ended, "the end of a slow peer"))
	}
	s.end(time.Second)
	s.wantNoneLost(s.all())
	s.wantStreamsWhole()
}

// openHalf opens a connection with one call of BidiMethod on it, reads nothing from then on, and answers nothing.
func openHalf(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { nc.Close() })
	_, err = nc.Write([]byte(http2.ClientPreface))
	require.NoError(t, err)
	fr := http2.NewFramer(nc, nil)
	require.NoError(t, fr.WriteSettings())
	block := testbed.HeaderBlock(testbed.RequestFields().Replace(":path", BidiMethod))
	require.NoError(t, fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: block}))
	return nc.(*net.TCPConn)
}

// Clients go without a word, or end one direction of their connections. Their calls end at the servers too, as soon as
// the listener's keepalive has noticed.
func TestHalfOpenPeers_AreGivenUpAndHoldUpNobodyElse(t *testing.T) {
	t.Parallel()
	backends := three(t)
	proxy := testbed.NewProxy(t, defaults.document(asServers(backends)...), func(c *conf.Config) {
		c.Listeners[0].Keepalive.Time, c.Listeners[0].Keepalive.Timeout = time.Second, time.Second
	})
	s := beginAt(t, proxy.Addr, LoadConfig{}, defaults, asServers(backends)...)
	s.fault(func() {
		for range peersOfAKind {
			openHalf(t, proxy.Addr)
			require.NoError(t, openHalf(t, proxy.Addr).CloseWrite())
		}
		testbed.Poll(t, func() error {
			if got, want := proxy.UpstreamStreams(), 50+peersOfAKind; got < want { // the load's, and theirs
				return fmt.Errorf("%d calls upstream, want %d at least", got, want)
			}
			return nil
		})
	})
	s.end(after)
	s.wantNoneLost(s.all())
	s.wantStreamsWhole()
	testbed.Poll(t, func() error {
		if n := proxy.UpstreamStreams(); n > 0 {
			return fmt.Errorf("%d calls upstream, want none", n)
		}
		return nil
	})
}
