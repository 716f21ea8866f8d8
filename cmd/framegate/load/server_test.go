package load

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/server"

	pb "github.com/framegate/framegate/kitex_gen/echo"
	"github.com/framegate/framegate/kitex_gen/echo/echo"
	"github.com/framegate/framegate/test/kitexlistener"
)

// echoServer is a real Kitex server of echo.Echo on 127.0.0.1 that answers as the demo services do, and notes what it saw.
type echoServer struct {
	address string
	// serve, if set, is called at the beginning of every call, and of every message of Chat. Its error is the answer.
	serve func() error

	mu    sync.Mutex
	calls int64           // guarded by mu: how often serve was due
	peers map[string]bool // guarded by mu: the addresses that calls came from
}

func newEchoServer() *echoServer { return &echoServer{peers: make(map[string]bool)} }

func startServer(t *testing.T, serve func() error) *echoServer {
	t.Helper()
	s := newEchoServer()
	s.serve = serve
	s.address = serveEcho(t, s)
	return s
}

// serveEcho serves service until the test ends and returns its address.
func serveEcho(t *testing.T, service pb.Echo) string {
	t.Helper()
	ln := kitexlistener.New(t)
	svr := echo.NewServer(service, server.WithListener(ln), server.WithExitWaitTime(100*time.Millisecond),
		server.WithExitSignal(func() <-chan error { return nil })) // otherwise it waits for signals, for ever
	stopped := make(chan error, 1)
	go func() { stopped <- svr.Run() }()
	t.Cleanup(func() {
		_ = svr.Stop() // says so if a connection outlives the exit wait
		<-stopped
	})
	return ln.Addr().String()
}

func (s *echoServer) begin(ctx context.Context) error {
	s.mu.Lock()
	s.calls++
	s.peers[rpcinfo.GetRPCInfo(ctx).From().Address().String()] = true
	s.mu.Unlock()
	if s.serve == nil {
		return nil
	}
	return s.serve()
}

func (s *echoServer) seen() (calls int64, peers int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls, len(s.peers)
}

func (s *echoServer) Say(ctx context.Context, req *pb.Request) (*pb.Reply, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	return &pb.Reply{Payload: req.Payload}, nil
}

func (s *echoServer) Collect(stream pb.Echo_CollectServer) error {
	if err := s.begin(stream.Context()); err != nil {
		return err
	}
	var n int32
	for {
		_, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&pb.Reply{Index: n})
		}
		if err != nil {
			return err
		}
		n++
	}
}

func (s *echoServer) Stream(req *pb.Request, stream pb.Echo_StreamServer) error {
	if err := s.begin(stream.Context()); err != nil {
		return err
	}
	for i := range req.Count {
		if err := stream.Send(&pb.Reply{Payload: req.Payload, Index: i}); err != nil {
			return err
		}
	}
	return nil
}

func (s *echoServer) Chat(stream pb.Echo_ChatServer) error {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.begin(stream.Context()); err != nil {
			return err
		}
		if err := stream.Send(&pb.Reply{Payload: req.Payload}); err != nil {
			return err
		}
	}
}
