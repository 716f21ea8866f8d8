package pool

import (
	"errors"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"golang.org/x/net/http2"
)

// errDone ends a stream that the call does not need any more. Its text reaches no peer.
var errDone = errors.New("pool: stream closed")

// Stream is one call's stream on a shared connection. The methods of grpc.Stream read the answer; those below write and
// end it. One goroutine may write and one read at a time; Close may come from any.
type Stream struct {
	*grpc.Stream
	conn  *conn
	heard uint64 // from the peer on this connection, before this stream was opened
}

var (
	notLast = &grpc.Options{}
	last    = &grpc.Options{Last: true}
)

// Write sends p as DATA, blocking while the stream's window is full. It takes p over: p must not be changed
// again. The last 8 bytes of p's capacity must lie beyond its length and be zero, or hold the mark with which Kitex
// recycles p once it is sent (handler/piece.go). It fails when the stream has ended.
func (s *Stream) Write(p []byte) error { return s.conn.tr.Write(s.Stream, nil, p, notLast) }

// CloseSend half-closes the stream: no Write may follow.
func (s *Stream) CloseSend() error { return s.conn.tr.Write(s.Stream, nil, nil, last) }

// Reset ends the stream with RST_STREAM CANCEL unless it has ended; a blocked read or write fails with err.
func (s *Stream) Reset(err error) { s.conn.tr.CloseStream(s.Stream, err) }

// Close ends the stream if it has not ended and gives its slot back. It must be called exactly once.
func (s *Stream) Close() {
	select {
	case <-s.Done():
	default:
		s.Reset(errDone)
	}
	s.conn.release()
}

// ResetCode returns the code with which the endpoint reset the stream, and false if it did not.
func (s *Stream) ResetCode() (http2.ErrCode, bool) { return s.conn.h2.ResetCode(streamID(s.Stream)) }

// Unprocessed reports whether the endpoint has certainly not processed the stream: it refused it, or went away before it
// (RFC 9113 §8.7), and nothing of an answer has come. It may wait for the beginning of the answer.
func (s *Stream) Unprocessed() bool {
	if !s.Stream.Unprocessed() {
		return false
	}
	md, _ := s.Header() // TrailersOnly is false too of a stream that never left
	return len(md) == 0
}

// Address is the endpoint's.
func (s *Stream) Address() string { return s.conn.endpoint.addr }

// Silent reports whether nothing has come from the peer on this stream's connection since the stream was opened: no
// DATA or HEADERS of any stream and no answer to a keepalive ping. It tells a stopped process from a slow method. It
// may be called by anybody at any time.
func (s *Stream) Silent() bool { return s.conn.h2.Heard() == s.heard }

// connection is nil for a nil Stream.
func (s *Stream) connection() *conn {
	if s == nil {
		return nil
	}
	return s.conn
}
