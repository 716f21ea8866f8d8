package pool

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/framegate/framegate/pool/transport"
)

// startAnswers starts a server that answers with what the test gives it, one after the other.
func startAnswers(t *testing.T, answers ...func(c *serverConn, stream uint32)) *server {
	next := make(chan func(c *serverConn, stream uint32), len(answers))
	for _, a := range answers {
		next <- a
	}
	return startServer(t, func(s *server) {
		s.onHeaders = func(c *serverConn, stream uint32) {
			select {
			case answer := <-next:
				answer(c, stream)
			default:
				c.finish(stream)
			}
		}
	})
}

func noAnswer(*serverConn, uint32) {}

// A status that is no int32 made Kitex's reader panic: every call on the connection hung. It is UNKNOWN, and costs nobody
// anything.
func TestAnswers_StatusThatIsNoneIsUnknownAndHurtsNobody(t *testing.T) {
	t.Parallel()
	head := []string{":status", "200", "content-type", "application/grpc"}
	for name, fields := range map[string][]string{
		"beyond uint32":         {"grpc-status", "99999999999999999999"},
		"beyond int32":          {"grpc-status", "4294967295"},
		"just beyond int32":     {"grpc-status", "2147483648"},
		"below int32":           {"grpc-status", "-4294967295"},
		"below zero":            {"grpc-status", "-1"},
		"no number":             {"grpc-status", "NOT_FOUND"},
		"empty":                 {"grpc-status", ""},
		"with a sign":           {"grpc-status", "+5"},
		"the second of two":     {"grpc-status", "5", "grpc-status", "4294967295"},
		"biz beyond int32":      {"grpc-status", "13", "biz-status", "4294967295", "biz-extra", `{"a":"b"}`},
		"biz below int32":       {"grpc-status", "0", "biz-status", "-2147483649"},
		"biz without status":    {"biz-status", "4294967295"},
		"biz no number":         {"grpc-status", "0", "biz-status", "x"},
		"with details":          {"grpc-status", "4294967295", "grpc-status-details-bin", "CAUSA3h5eg"},
		"with details of biz":   {"grpc-status", "0", "biz-status", "4294967295", "grpc-status-details-bin", "CAUSA3h5eg"},
		"both":                  {"biz-status", "4294967295", "grpc-status", "4294967295"},
		"with a message":        {"grpc-status", "4294967295", "grpc-message", "why", "x-trailer", "kept"},
		"a message and details": {"grpc-status", "4294967295", "x-trailer", "kept", "grpc-message", "why", "grpc-status-details-bin", "!"},
	} {
		for _, shape := range []string{"trailers only", "after headers"} {
			t.Run(name+", "+shape, func(t *testing.T) {
				server := startAnswers(t, noAnswer, func(c *serverConn, stream uint32) {
					if shape == "after headers" {
						c.headers(stream)
						c.writeHeaders(stream, true, fields...)
						return
					}
					c.writeHeaders(stream, true, append(append([]string{}, head...), fields...)...)
				})
				p := newPool(t, nil)
				neighbour := open(t, p, server.addr)
				s := open(t, p, server.addr)
				require.ErrorIs(t, ends(t, s), io.EOF)
				require.Equal(t, codes.Unknown, s.Status().Code())
				require.Empty(t, s.Trailer()["biz-status"])
				if strings.Contains(name, "message") {
					require.Equal(t, "why", s.Status().Message())
					require.Equal(t, []string{"kept"}, s.Trailer()["x-trailer"])
				}
				s.Close()
				notEnded(t, "a neighbour", neighbour.Done())
				receive(t, "a connection", server.accepted).finish(1)
				require.ErrorIs(t, ends(t, neighbour), io.EOF)
				require.Equal(t, codes.OK, neighbour.Status().Code())
				neighbour.Close()
				after := open(t, p, server.addr)
				require.ErrorIs(t, ends(t, after), io.EOF)
				require.Equal(t, codes.OK, after.Status().Code())
				after.Close()
				require.EqualValues(t, 1, server.accepts.Load())
			})
		}
	}
}

// Statuses that gRPC does not define but allows are passed as they are.
func TestAnswers_AnyInt32IsAStatus(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]codes.Code{"0": 0, "16": 16, "17": 17, "999": 999, "2147483647": 2147483647, "007": 7} {
		server := startAnswers(t, func(c *serverConn, stream uint32) {
			c.writeHeaders(stream, true, ":status", "200", "content-type", "application/grpc", "grpc-status", text, "biz-status", "-2147483648")
		})
		p := newPool(t, nil)
		s := open(t, p, server.addr)
		require.ErrorIs(t, ends(t, s), io.EOF)
		require.Equal(t, want, s.Status().Code())
		require.Equal(t, []string{"-2147483648"}, s.Trailer()["biz-status"])
		s.Close()
	}
}

// long sends a block of any length, in frames of the largest size.
func (c *serverConn) long(stream uint32, end bool, fields ...string) {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	c.write(func(fr *http2.Framer) error {
		rest := block.Bytes()
		n := min(len(rest), 16384)
		err := fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: rest[:n], EndHeaders: n == len(rest), EndStream: end})
		for rest = rest[n:]; err == nil && len(rest) > 0; rest = rest[n:] {
			n = min(len(rest), 16384)
			err = fr.WriteContinuation(stream, n == len(rest), rest[:n])
		}
		return err
	})
}

// A block that is too long ended the connection. It ends its stream alone, at the endpoint too.
func TestAnswers_TooLargeHeadersEndTheirStreamAlone(t *testing.T) {
	t.Parallel()
	head := []string{":status", "200", "content-type", "application/grpc"}
	var many []string
	for range 2000 {
		many = append(many, "x-many", "values that are short")
	}
	cases := map[string]struct {
		headersFirst, end bool
		fields            []string
	}{
		"a message of 72 KB":             {true, true, []string{"grpc-status", "13", "grpc-message", strings.Repeat("m", 72<<10)}},
		"a message of 72 KB at once":     {false, true, append(append([]string{}, head...), "grpc-status", "13", "grpc-message", strings.Repeat("m", 72<<10))},
		"a message of 5 MB":              {true, true, []string{"grpc-status", "13", "grpc-message", strings.Repeat("m", 5<<20)}},
		"a header of 72 KB":              {false, false, append(append([]string{}, head...), "x-large", strings.Repeat("v", 72<<10))},
		"a header of 1 MB before status": {false, false, append([]string{":status", "200", "x-large", strings.Repeat("v", 1<<20)}, "content-type", "application/grpc")},
		"a name of 72 KB":                {false, false, append(append([]string{}, head...), strings.Repeat("n", 72<<10), "v")},
		"many headers":                   {false, false, append(append([]string{}, head...), many...)},
		"many trailers":                  {true, true, append([]string{"grpc-status", "0"}, many...)},
		"just too large":                 {false, true, append(append([]string{}, head...), "grpc-status", "0", "x-large", strings.Repeat("v", 64<<10-150))},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			server := startAnswers(t, noAnswer, func(sc *serverConn, stream uint32) {
				if c.headersFirst {
					sc.headers(stream)
				}
				sc.long(stream, c.end, c.fields...)
			})
			p := newPool(t, nil)
			neighbour := open(t, p, server.addr)
			s := open(t, p, server.addr)
			require.Error(t, ends(t, s))
			code, ok := s.ResetCode()
			require.True(t, ok)
			require.Equal(t, transport.HeadersTooLarge, code)
			s.Close()
			conn := receive(t, "a connection", server.accepted)
			require.EqualValues(t, 3, receive(t, "a reset of the stream", conn.resets).stream)
			notEnded(t, "a neighbour", neighbour.Done())
			conn.finish(1)
			require.ErrorIs(t, ends(t, neighbour), io.EOF)
			require.Equal(t, codes.OK, neighbour.Status().Code())
			neighbour.Close()
			for range 3 { // with what may have become of the table
				after := open(t, p, server.addr)
				require.ErrorIs(t, ends(t, after), io.EOF)
				require.Equal(t, codes.OK, after.Status().Code())
				after.Close()
			}
			require.EqualValues(t, 1, server.accepts.Load())
		})
	}
}

// What is just within the limit arrives.
func TestAnswers_LargeHeadersWithinTheLimitArrive(t *testing.T) {
	t.Parallel()
	value := strings.Repeat("v", 60<<10)
	server := startAnswers(t, func(c *serverConn, stream uint32) {
		c.long(stream, false, ":status", "200", "content-type", "application/grpc", "x-large", value)
		c.long(stream, true, "grpc-status", "0", "x-large", value)
	})
	p := newPool(t, nil)
	s := open(t, p, server.addr)
	md, err := s.Header()
	require.NoError(t, err)
	require.Equal(t, []string{value}, md["x-large"])
	require.ErrorIs(t, ends(t, s), io.EOF)
	require.Equal(t, []string{value}, s.Trailer()["x-large"])
	s.Close()
}

// A block without end is more than a stream's fault.
func TestAnswers_BlockWithoutEndEndsTheConnection(t *testing.T) {
	t.Parallel()
	server := startAnswers(t, func(c *serverConn, stream uint32) {
		c.write(func(fr *http2.Framer) error {
			if err := fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte{0x88}}); err != nil {
				return err
			}
			for range 200_000 {
				if err := fr.WriteContinuation(stream, false, nil); err != nil {
					return err
				}
			}
			return nil
		})
	})
	p := newPool(t, nil)
	s := open(t, p, server.addr)
	require.ErrorContains(t, ends(t, s), "a header block has no end")
	s.Close()
}

// Answers of 1xx come before the real one (RFC 9110 §15.2): gRPC clients skip them.
func TestAnswers_InformationalOnesAreSkipped(t *testing.T) {
	t.Parallel()
	server := startAnswers(t, func(c *serverConn, stream uint32) {
		c.writeHeaders(stream, false, ":status", "100")
		c.writeHeaders(stream, false, ":status", "103", "link", "</style.css>; rel=preload", "x-early", "hint")
		c.writeHeaders(stream, false, ":status", "103", "content-type", "application/grpc")
		c.writeHeaders(stream, false, ":status", "200", "content-type", "application/grpc", "x-real", "header")
		c.writeHeaders(stream, true, "grpc-status", "5", "grpc-message", "real")
	}, func(c *serverConn, stream uint32) {
		c.writeHeaders(stream, false, ":status", "199")
		c.writeHeaders(stream, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "7")
	})
	p := newPool(t, nil)
	s := open(t, p, server.addr)
	md, err := s.Header()
	require.NoError(t, err)
	require.Equal(t, []string{"header"}, md["x-real"])
	require.Empty(t, md["x-early"])
	require.ErrorIs(t, ends(t, s), io.EOF)
	require.Equal(t, codes.NotFound, s.Status().Code())
	s.Close()
	s = open(t, p, server.addr)
	require.True(t, s.TrailersOnly())
	require.ErrorIs(t, ends(t, s), io.EOF)
	require.Equal(t, codes.PermissionDenied, s.Status().Code())
	s.Close()
	require.EqualValues(t, 1, server.accepts.Load())
}

// One that ends the stream is no answer at all (RFC 9113 §8.1).
func TestAnswers_InformationalOneThatEndsIsMalformed(t *testing.T) {
	t.Parallel()
	server := startAnswers(t, func(c *serverConn, stream uint32) { c.writeHeaders(stream, true, ":status", "103") })
	p := newPool(t, nil)
	s := open(t, p, server.addr)
	require.ErrorContains(t, ends(t, s), "HTTP status code 103")
	s.Close()
}
