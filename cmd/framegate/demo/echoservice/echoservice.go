// Package echoservice implements echo.Echo (idl/echo.proto) with Kitex, for the demo and the tour of the README.
package echoservice

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cloudwego/kitex/pkg/kerrors"

	"github.com/framegate/framegate/kitex_gen/echo"
)

// New returns a service that answers with what it was sent. Its name tells one instance from another.
func New(name string) echo.Echo { return &service{name} }

type service struct{ name string }

func (s *service) reply(req *echo.Request, index int32) *echo.Reply {
	return &echo.Reply{Message: s.name + " heard " + req.Message, Payload: req.Payload, Index: index}
}

// Say implements echo.Echo.
func (s *service) Say(_ context.Context, req *echo.Request) (*echo.Reply, error) {
	return s.reply(req, 0), nil
}

// Collect implements echo.Echo.
func (s *service) Collect(stream echo.Echo_CollectServer) error {
	for n := int32(0); ; n++ {
		_, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&echo.Reply{Message: fmt.Sprintf("%s counted %d", s.name, n), Index: n})
		}
		if err != nil {
			return err
		}
	}
}

// maxAnswers bounds the messages that one call of Stream sends.
const maxAnswers = 1_000_000

// Stream implements echo.Echo.
func (s *service) Stream(req *echo.Request, stream echo.Echo_StreamServer) error {
	if req.Count < 0 || req.Count > maxAnswers {
		return kerrors.NewGRPCBizStatusError(400, fmt.Sprintf("count: %d, want 0 to %d", req.Count, maxAnswers))
	}
	for i := range req.Count {
		if err := stream.Send(s.reply(req, i)); err != nil {
			return err
		}
	}
	return nil
}

// Chat implements echo.Echo.
func (s *service) Chat(stream echo.Echo_ChatServer) error {
	for i := int32(0); ; i++ {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(s.reply(req, i)); err != nil {
			return err
		}
	}
}
