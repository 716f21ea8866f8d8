package pool

import (
	"errors"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"golang.org/x/net/http2"
)

// errDone is the error of reads and writes of a stream that Close has reset. Its text reaches no peer.
var errDone = errors.New("pool: stream closed")

// Stream is one call's stream on a shared connection. The methods of grpc.Stream read the answer; those below write the
// request and end the stream. At a time one goroutine may write and one may read; any goroutine may call Close.
type Stream struct {
	*grpc.Stream
	conn  *conn
	heard uint64 // h2conn.Conn.Heard before the stream was opened
}

var (
	notLast = &grpc.Options{}
	last    = &grpc.Options{Last: true}
)

// Write sends p as DATA, blocking while the stream's flow-control window is full. It takes p over: the caller must not
// change p any more. The last 8 bytes of p's capacity must lie beyond its length, and be zero or the mark with which Kitex
// recycles p when it is sent (handler/frame/piece.go). Write fails when the stream has ended.
func (s *Stream) Write(p []byte) error { return s.conn.tr.Write(s.Stream, nil, p, notLast) }

// CloseSend half-closes the stream. Write must not be called afterwards.
func (s *Stream) CloseSend() error { return s.conn.tr.Write(s.Stream, nil, nil, last) }

// Reset ends the stream with RST_STREAM CANCEL, unless it has ended. A read or write that is blocked fails with err.
func (s *Stream) Reset(err error) { s.conn.tr.CloseStream(s.Stream, err) }

// Close gives back the stream's slot, after a Reset if the stream has not ended. It must be called exactly once.
func (s *Stream) Close() {
	select {
	case <-s.Done():
	default:
		s.Reset(errDone)
	}
	s.conn.release()
}

// ResetCode returns the code with which the endpoint reset the stream, or false if it did not; see h2conn.Conn.ResetCode.
func (s *Stream) ResetCode() (http2.ErrCode, bool) { return s.conn.h2.ResetCode(streamID(s.Stream)) }

// Unprocessed reports whether the endpoint has certainly not processed the stream (RFC 9113 §8.7): it refused the stream, or
// sent a GOAWAY with a lower stream identifier, and has sent no headers. It may block until the headers have come or the
// stream has ended.
func (s *Stream) Unprocessed() bool {
	if !s.Stream.Unprocessed() {
		return false
	}
	md, _ := s.Header() // TrailersOnly would not tell: it is false, too, for a stream that was never sent
	return len(md) == 0
}

// Address returns the address of the endpoint.
func (s *Stream) Address() string { return s.conn.endpoint.addr }

// Silent reports whether the peer has sent nothing on the stream's connection since the stream was opened: no DATA or
// HEADERS on any stream, and no answer to a keepalive ping. It tells a stopped process from a slow method. It may be called
// by any goroutine at any time.
func (s *Stream) Silent() bool { return s.conn.h2.Heard() == s.heard }

// connection returns the stream's connection, or nil for a nil Stream.
func (s *Stream) connection() *conn {
	if s == nil {
		return nil
	}
	return s.conn
}
