package load

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"

	pb "github.com/framegate/framegate/kitex_gen/echo"
	"github.com/framegate/framegate/kitex_gen/echo/echo"
)

// caller makes calls of one kind over one connection, one at a time. ctx is never cancelled: a call ends when it is answered or when
// its connection is closed (see dialer).
type caller interface {
	// call makes one call and returns the payload that it carried.
	call(ctx context.Context) (traffic, error)
	// finish ends what the caller keeps open between calls. No call follows.
	finish()
}

// newCaller returns the caller for cfg.Mode. It shares req, which nobody changes.
func newCaller(cfg Config, client echo.Client, req *pb.Request) caller {
	switch cfg.Mode {
	case Client:
		return &clientStreamCaller{client, req, cfg.Messages}
	case Server:
		return &serverStreamCaller{client, req, cfg.Messages}
	case Bidi:
		return &bidiCaller{client: client, req: req}
	default:
		return &unaryCaller{client, req}
	}
}

// newRequest returns the message that all of a run's calls send.
func newRequest(cfg Config) *pb.Request {
	req := &pb.Request{Payload: make([]byte, cfg.SizeBytes)}
	for i := range req.Payload {
		req.Payload[i] = 'a' + byte(i%26)
	}
	if cfg.Mode == Server {
		req.Count = int32(cfg.Messages)
	}
	return req
}

type unaryCaller struct {
	client echo.Client
	req    *pb.Request
}

func (c *unaryCaller) call(ctx context.Context) (traffic, error) {
	reply, err := c.client.Say(ctx, c.req)
	if err != nil {
		return traffic{}, err
	}
	return traffic{int64(len(c.req.Payload)), int64(len(reply.Payload))}, nil
}

func (c *unaryCaller) finish() {}

type clientStreamCaller struct {
	client   echo.Client
	req      *pb.Request
	messages int
}

func (c *clientStreamCaller) call(ctx context.Context) (traffic, error) {
	stream, err := c.client.Collect(ctx)
	if err != nil {
		return traffic{}, err
	}
	var t traffic
	for range c.messages {
		if err := stream.Send(c.req); err != nil {
			// The call has ended early. Its status comes from a receive, because Send may not report a business error.
			if _, ended := stream.CloseAndRecv(); ended != nil {
				err = endedEarly(ended, "its reply")
			}
			return t, err
		}
		t.sent += int64(len(c.req.Payload))
	}
	reply, err := stream.CloseAndRecv()
	if err != nil {
		return t, endedEarly(err, "its reply")
	}
	t.received = int64(len(reply.Payload))
	return t, nil
}

func (c *clientStreamCaller) finish() {}

type serverStreamCaller struct {
	client   echo.Client
	req      *pb.Request
	messages int
}

func (c *serverStreamCaller) call(ctx context.Context) (traffic, error) {
	stream, err := c.client.Stream(ctx, c.req)
	if err != nil {
		return traffic{}, err
	}
	t := traffic{sent: int64(len(c.req.Payload))}
	for i := range c.messages {
		reply, err := stream.Recv()
		if err != nil {
			return t, endedEarly(err, fmt.Sprintf("reply %d of %d", i+1, c.messages))
		}
		t.received += int64(len(reply.Payload))
	}
	// The call is over at its status, not at its last reply. Replies over the number are read to their end, because an unread stream
	// stays in memory; a stream that sends replies without end is ended with the slice.
	for extra := 0; ; extra++ {
		switch _, err := stream.Recv(); {
		case err == nil:
		case !errors.Is(err, io.EOF):
			return t, err
		case extra > 0:
			return t, status.Errorf(codes.Internal, "%d replies, %d were asked for", c.messages+extra, c.messages)
		default:
			return t, nil
		}
	}
}

func (c *serverStreamCaller) finish() {}

// bidiCaller keeps a stream open over its calls; a call is a request and its reply on it. An error ends the stream; the next call
// opens another.
type bidiCaller struct {
	client echo.Client
	req    *pb.Request
	stream echo.Echo_ChatClient // nil before the first call and after an error
}

func (c *bidiCaller) call(ctx context.Context) (t traffic, err error) {
	if c.stream == nil {
		if c.stream, err = c.client.Chat(ctx); err != nil {
			c.stream = nil
			return t, err
		}
	}
	if err = c.stream.Send(c.req); err != nil {
		c.stream = nil
		return t, err
	}
	reply, err := c.stream.Recv()
	if err != nil {
		c.stream = nil
		return t, endedEarly(err, "its reply")
	}
	return traffic{int64(len(c.req.Payload)), int64(len(reply.Payload))}, nil
}

// finish half-closes the stream and reads its status, so that the server sees no error.
func (c *bidiCaller) finish() {
	if c.stream == nil {
		return
	}
	if err := c.stream.Close(); err == nil {
		_, _ = c.stream.Recv()
	}
	c.stream = nil
}

// endedEarly turns io.EOF, the end of a stream with status OK where a message was due, into an error; other errors pass unchanged.
func endedEarly(err error, want string) error {
	if errors.Is(err, io.EOF) {
		return status.Errorf(codes.Internal, "the stream ended with OK before %s", want)
	}
	return err
}
