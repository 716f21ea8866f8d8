package kitexconn

import (
	"errors"
	"io"
	"strconv"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/pkg/utils"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/pool/h2conn"
	"github.com/framegate/framegate/pool/transport"
)

// errDone is the error of reads and writes of a stream that Close has reset. Its text reaches no peer.
var errDone = errors.New("kitexconn: stream closed")

// Stream is one call's stream on a Conn. At a time one goroutine may write and one may read; any goroutine may call the other
// methods.
type Stream struct {
	kitex *grpc.Stream
	conn  *Conn
	heard uint64 // h2conn.Conn.Heard before the stream was opened
	hdr   grpc.CallHdr
}

var (
	notLast = &grpc.Options{}
	last    = &grpc.Options{Last: true}
)

// Conn implements transport.Stream.
func (s *Stream) Conn() transport.Conn { return s.conn }

// Address returns the address of the endpoint.
func (s *Stream) Address() string { return s.conn.address }

// Write sends p as DATA, blocking while the stream's flow-control window is full. It takes p over: the caller must not
// change p any more. The last 8 bytes of p's capacity must lie beyond its length, and be zero or the mark with which Kitex
// recycles p when it is sent (handler/frame/piece.go). Write fails when the stream has ended.
func (s *Stream) Write(p []byte) error { return s.conn.tr.Write(s.kitex, nil, p, notLast) }

// CloseSend half-closes the stream. Write must not be called afterwards.
func (s *Stream) CloseSend() error { return s.conn.tr.Write(s.kitex, nil, nil, last) }

// Read fills p with DATA or fails: with io.EOF if the stream has ended, with io.ErrUnexpectedEOF if it ended within p, with a
// transport.ConnectionError if the connection broke, or with the error of Reset.
func (s *Stream) Read(p []byte) (int, error) {
	n, err := s.kitex.Read(p)
	if err != nil && err != io.EOF {
		err = streamError(err)
	}
	return n, err
}

// streamError returns err or, if it is Kitex's for a connection that broke, a transport.ConnectionError.
func streamError(err error) error {
	var conn grpc.ConnectionError
	if errors.As(err, &conn) {
		return transport.ConnectionError{Reason: conn.Desc}
	}
	return err
}

// Header waits for the headers of the answer and returns them; the caller may change them. The error is a *status.Error if
// they are not those of a gRPC answer, or if none came.
func (s *Stream) Header() (metadata.MD, error) {
	md, err := s.kitex.Header()
	if err != nil {
		err = streamError(err)
	}
	return md, err
}

// TrailersOnly waits for the headers of the answer, and reports whether they are its trailers, too. It is false for a stream
// that has ended without any.
func (s *Stream) TrailersOnly() bool { return s.kitex.TrailersOnly() }

// Encoding returns the grpc-encoding of the answer, whose headers have come; empty for none.
func (s *Stream) Encoding() string { return s.kitex.RecvCompress() }

// Done returns a channel that is closed when the stream has ended.
func (s *Stream) Done() <-chan struct{} { return s.kitex.Done() }

// Status returns the status of a stream that has ended: that of the trailers, or one that Kitex made.
func (s *Stream) Status() *status.Status { return s.kitex.Status() }

// Trailer returns the trailers of a stream that the endpoint has ended; the caller may change them. Kitex takes biz-status and
// biz-extra out of them, and Trailer puts them back. It must not be called for a stream that ended otherwise, such as by Reset:
// if trailers still come, Kitex notes those two without a lock.
func (s *Stream) Trailer() metadata.MD {
	md := s.kitex.Trailer()
	biz := s.kitex.BizStatusErr()
	if biz == nil {
		return md
	}
	if md == nil {
		md = metadata.MD{}
	}
	md["biz-status"] = []string{strconv.Itoa(int(biz.BizStatusCode()))}
	if extra := biz.BizExtra(); len(extra) > 0 {
		v, _ := utils.Map2JSONStr(extra)
		md["biz-extra"] = []string{v}
	}
	return md
}

// TrailerValues returns the values of a trailer other than biz-status and biz-extra, of a stream that has ended, also by Reset.
func (s *Stream) TrailerValues(name string) []string { return s.kitex.Trailer()[name] }

// Reset ends the stream with RST_STREAM CANCEL, unless it has ended. A read or write that is blocked fails with err.
func (s *Stream) Reset(err error) { s.conn.tr.CloseStream(s.kitex, err) }

// Close implements transport.Stream: it gives back the stream's slot, after a Reset if the stream has not ended.
func (s *Stream) Close() {
	select {
	case <-s.Done():
	default:
		s.Reset(errDone)
	}
	s.conn.owner.Release()
}

// ResetCode returns the code of a stream that the endpoint ended without trailers: that of its RST_STREAM, or
// transport.BareEnd or transport.HeadersTooLarge. It returns false for a stream that ended with trailers. The stream has
// ended. The code comes from the frames, which h2conn read; the message that Kitex's transport makes for such a stream shows
// that no trailers came first.
func (s *Stream) ResetCode() (http2.ErrCode, bool) {
	code, ok := s.conn.h2.ResetCode(streamID(s.kitex))
	if !ok {
		return 0, false
	}
	message := s.Status().Message()
	switch {
	case message == "stream terminated by RST_STREAM with error code: "+code.String():
		if code == transport.BareEnd || code == transport.HeadersTooLarge {
			code = http2.ErrCodeInternal // the endpoint sent a number that is reserved for us
		}
		return code, true
	case code == transport.BareEnd:
		return code, message == "server closed the stream without sending trailers"
	case code == transport.HeadersTooLarge:
		return code, message == h2conn.HeadersTooLargeMessage
	}
	return 0, false
}

// Unprocessed reports whether the endpoint has certainly not processed the stream (RFC 9113 §8.7): it refused the stream, or
// sent a GOAWAY with a lower stream identifier, and has sent no headers. It may block until the headers have come or the
// stream has ended.
func (s *Stream) Unprocessed() bool {
	if !s.kitex.Unprocessed() {
		return false
	}
	md, _ := s.kitex.Header() // TrailersOnly would not tell: it is false, too, for a stream that was never sent
	return len(md) == 0
}

// Silent reports whether the peer has sent nothing on the stream's connection since the stream was opened: no DATA or
// HEADERS on any stream, and no answer to a keepalive ping. It tells a stopped process from a slow method.
func (s *Stream) Silent() bool { return s.conn.h2.Heard() == s.heard }
