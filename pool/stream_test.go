package pool

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/pool/policy"
	"github.com/framegate/framegate/pool/transport"
)

// stream opens a stream and returns both its ends.
func stream(t *testing.T, p *Pool, server *server) (*Stream, *serverConn, uint32) {
	t.Helper()
	s := open(t, p, server.addr)
	for _, c := range server.all() {
		if c.nc.RemoteAddr().String() == s.conn.tr.LocalAddr().String() {
			return s, c, receive(t, "a stream", c.streams)
		}
	}
	t.Fatal("the server does not know the connection")
	return nil, nil, 0
}

// payload gives p the spare capacity that Write wants.
func payload(p string) []byte { return append(make([]byte, 0, len(p)+8), p...) }

func TestStream_WriteAndCloseSend(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := newPool(t, nil)
	s, c, id := stream(t, p, server)
	for _, text := range []string{"one", "two"} {
		require.NoError(t, s.Write(payload(text)))
		require.Equal(t, text, receive(t, "DATA", c.data))
	}
	require.NoError(t, s.CloseSend())
	require.Equal(t, "<end>", receive(t, "the end of the request", c.data))
	require.Error(t, s.Write(payload("too late")))
	require.Error(t, s.CloseSend())

	c.headers(id)
	c.write(func(fr *http2.Framer) error { return fr.WriteData(id, false, []byte("answer")) })
	c.trailers(id, "5")
	got := make([]byte, 6)
	_, err := s.Read(got)
	require.NoError(t, err)
	require.Equal(t, "answer", string(got))
	_, err = s.Read(got[:1])
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, codes.NotFound, s.Status().Code())
	_, reset := s.ResetCode()
	require.False(t, reset)
	s.Close()
	require.Zero(t, p.Stats().Streams)
}

// Write takes what fits the stream's window and blocks on the rest until the endpoint reads, or the stream ends.
func TestStream_WriteBlocksWhileTheWindowIsFull(t *testing.T) {
	t.Parallel()
	server := startServer(t, func(s *server) {
		s.first = []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}
	})
	p := newPool(t, nil)
	for name, end := range map[string]func(*Stream, *serverConn, uint32){
		"reset by us":       func(s *Stream, _ *serverConn, _ uint32) { s.Reset(errTest) },
		"closed by us":      func(s *Stream, _ *serverConn, _ uint32) {},
		"reset by the peer": func(_ *Stream, c *serverConn, id uint32) { c.reset(id, http2.ErrCodeCancel) },
	} {
		t.Run(name, func(t *testing.T) {
			s, c, id := stream(t, p, server)
			writes, result := make(chan int, 1000), make(chan error, 1)
			go func() {
				for i := 0; ; i++ {
					if err := s.Write(payload(strings.Repeat("x", 32<<10))); err != nil {
						result <- err
						return
					}
					writes <- i
				}
			}()
			receive(t, "a write", writes)
			select {
			case err := <-result:
				t.Fatalf("Write failed: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
			require.Less(t, len(writes), 5, "much more than a window was taken")
			end(s, c, id)
			if name == "closed by us" {
				s.Close()
			} else {
				defer s.Close()
			}
			require.Error(t, receive(t, "the end of Write", result))
		})
	}
}

func TestStream_CloseResetsWhatHasNotEnded(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := newPool(t, nil)
	for name, before := range map[string]func(*Stream, *serverConn, uint32){
		"open":        func(*Stream, *serverConn, uint32) {},
		"half-closed": func(s *Stream, _ *serverConn, _ uint32) { _ = s.CloseSend() },
		"answering":   func(_ *Stream, c *serverConn, id uint32) { c.headers(id) },
	} {
		t.Run(name, func(t *testing.T) {
			s, c, id := stream(t, p, server)
			before(s, c, id)
			start := time.Now()
			s.Close()
			require.Equal(t, reset{id, http2.ErrCodeCancel}, receive(t, "the reset", c.resets))
			require.Less(t, time.Since(start), 2*time.Second, "and not with Kitex's next clean-up, which is every 5s")
			_, fromPeer := s.ResetCode()
			require.False(t, fromPeer)
			require.Zero(t, p.Stats().Streams)
		})
	}

	t.Run("not one that has", func(t *testing.T) {
		s, c, id := stream(t, p, server)
		require.NoError(t, s.CloseSend())
		receive(t, "the end of the request", c.data)
		c.finish(id)
		require.ErrorIs(t, ends(t, s), io.EOF)
		s.Close()
		next, _, nextID := stream(t, p, server) // what comes after a reset, if there were one
		next.Close()
		require.Equal(t, reset{nextID, http2.ErrCodeCancel}, receive(t, "the next stream's reset", c.resets))
	})
}

func TestStream_ResetEndsReadsWithItsError(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := newPool(t, nil)
	s, c, id := stream(t, p, server)
	blocked := make(chan error, 1)
	go func() {
		_, err := s.Read(make([]byte, 5))
		blocked <- err
	}()
	why := errors.New("why")
	s.Reset(why)
	require.ErrorIs(t, receive(t, "the end of the read", blocked), why)
	require.Equal(t, reset{id, http2.ErrCodeCancel}, receive(t, "the reset", c.resets))
	s.Reset(errors.New("again")) // does nothing
	require.Equal(t, 1, p.Stats().Streams, "the slot is the caller's until Close")
	s.Close()
	require.Zero(t, p.Stats().Streams)
	require.Empty(t, c.resets)
}

func TestStream_ResetCode(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := newPool(t, nil)
	for code := http2.ErrCodeNo; code <= http2.ErrCodeHTTP11Required+1; code++ {
		t.Run(code.String(), func(t *testing.T) {
			s, c, id := stream(t, p, server)
			defer s.Close()
			_, ok := s.ResetCode()
			require.False(t, ok)
			c.reset(id, code)
			require.Error(t, ends(t, s))
			got, ok := s.ResetCode()
			require.True(t, ok)
			require.Equal(t, code, got)
			require.Equal(t, code == http2.ErrCodeRefusedStream, s.Unprocessed())
		})
	}
	t.Run("BareEnd", func(t *testing.T) {
		s, c, id := stream(t, p, server)
		defer s.Close()
		c.headers(id)
		c.write(func(fr *http2.Framer) error { return fr.WriteData(id, true, []byte("x")) })
		receive(t, "the end of the stream", s.Done())
		got, ok := s.ResetCode()
		require.True(t, ok)
		require.Equal(t, transport.BareEnd, got)
	})
}

// A stopped server resets everything at once; each stream must still know how it ended.
func TestStream_ResetCodeOfAWholeConnection(t *testing.T) {
	t.Parallel()
	const n = 256 // policy.Default().StreamsPerConnection
	server := startServer(t, nil)
	p := newPool(t, func(c *Config) { c.Connections.Max = 1 })
	var streams []*Stream
	var ids []uint32
	var c *serverConn
	for range n {
		s, conn, id := stream(t, p, server)
		streams, ids, c = append(streams, s), append(ids, id), conn
	}
	for _, id := range ids {
		c.reset(id, http2.ErrCodeEnhanceYourCalm)
	}
	for _, s := range streams {
		receive(t, "the end of a stream", s.Done())
	}
	for i, s := range streams {
		code, ok := s.ResetCode()
		require.True(t, ok, "stream %d", i)
		require.Equal(t, http2.ErrCodeEnhanceYourCalm, code)
		s.Close()
	}
	require.Zero(t, p.Stats().Streams)
}

// One stream's reader that does not read must not hold up another's.
func TestStream_SlowReaderHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	server := startServer(t, nil)
	p := newPool(t, nil)
	slow, c, slowID := stream(t, p, server)
	defer slow.Close()
	c.headers(slowID)
	chunk := bytes.Repeat([]byte("s"), 16<<10)
	for range int(policy.Default().StreamWindow) / len(chunk) { // all that the window allows
		c.write(func(fr *http2.Framer) error { return fr.WriteData(slowID, false, chunk) })
	}
	for range 50 {
		s, c2, id := stream(t, p, server)
		require.Same(t, c, c2)
		c.headers(id)
		for range 4 {
			c.write(func(fr *http2.Framer) error { return fr.WriteData(id, false, chunk) })
		}
		_, err := s.Read(make([]byte, 4*len(chunk)))
		require.NoError(t, err)
		s.Close()
	}
	got := make([]byte, policy.Default().StreamWindow)
	_, err := slow.Read(got)
	require.NoError(t, err)
}

func TestStream_SilentUntilSomethingComes(t *testing.T) {
	t.Parallel()
	for name, come := range map[string]func(c *serverConn, stream, other uint32){
		"headers":               func(c *serverConn, stream, _ uint32) { c.headers(stream) },
		"headers of another":    func(c *serverConn, _, other uint32) { c.headers(other) },
		"trailers of another":   func(c *serverConn, _, other uint32) { c.finish(other) },
		"an answer to our ping": nil,
	} {
		t.Run(name, func(t *testing.T) {
			server := startServer(t, nil)
			p := newPool(t, func(c *Config) {
				if come == nil {
					c.Keepalive = policy.Keepalive{Time: 20 * time.Millisecond, Timeout: patience}
				}
			})
			other, _, otherID := stream(t, p, server)
			s, c, id := stream(t, p, server)
			if come != nil {
				c.settings() // says nothing of calls
				c.reset(otherID, http2.ErrCodeCancel)
				receive(t, "the end of the other", other.Done())
				require.True(t, s.Silent())
				require.True(t, other.Silent())
				third, _, thirdID := stream(t, p, server)
				defer third.Close()
				come(c, id, thirdID)
			}
			eventually(t, "a sound", func() bool { return !s.Silent() })
			require.False(t, other.Silent())
			if come != nil {
				eventually(t, "a stream for which what came before does not count", func() bool {
					next, _, _ := stream(t, p, server)
					defer next.Close()
					return next.Silent() // unless more was on its way
				})
				require.False(t, s.Silent())
			}
			other.Close()
			s.Close()
		})
	}
}
