package test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/bytedance/gopkg/cloud/metainfo"
	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/kerrors"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/kitex_gen/echo"
	echosvc "github.com/framegate/framegate/kitex_gen/echo/echo"
	"github.com/framegate/framegate/test/testbed"
)

// kitexPair is a Kitex client of a Kitex server that behaves as e.
func kitexPair(t testing.TB, to via, e *testbed.Echo) echosvc.Client {
	t.Helper()
	return testbed.DialEcho(t, to(t, testbed.NewEcho(t, e)), client.WithClientBasicInfo(&rpcinfo.EndpointBasicInfo{ServiceName: "caller"}))
}

func TestKitex_Unary(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		c := kitexPair(t, to, &testbed.Echo{})
		for _, size := range []int{0, 1, 1000, 1 << 18} {
			payload := pattern(size, 5)
			reply, err := c.Say(patient(t), &echo.Request{Message: "hello", Payload: payload})
			require.NoError(t, err)
			require.Equal(t, "hello", reply.Message)
			wantMessages(t, [][]byte{reply.Payload}, [][]byte{payload})
		}
	})
}

func TestKitex_ClientStreaming(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		stream, err := kitexPair(t, to, &testbed.Echo{}).Collect(patient(t))
		require.NoError(t, err)
		for i := range 10 {
			require.NoError(t, stream.Send(&echo.Request{Message: fmt.Sprint(i)}))
		}
		reply, err := stream.CloseAndRecv()
		require.NoError(t, err)
		require.Equal(t, "0123456789", reply.Message)
		require.EqualValues(t, 10, reply.Index)
	})
}

func TestKitex_ServerStreaming(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		stream, err := kitexPair(t, to, &testbed.Echo{}).Stream(patient(t), &echo.Request{Message: "again", Count: 10})
		require.NoError(t, err)
		for i := range 10 {
			reply, err := stream.Recv()
			require.NoError(t, err)
			require.EqualValues(t, i, reply.Index)
		}
		_, err = stream.Recv()
		require.Equal(t, io.EOF, err)
	})
}

func TestKitex_Bidi(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		stream, err := kitexPair(t, to, &testbed.Echo{}).Chat(patient(t))
		require.NoError(t, err)
		for i := range 10 {
			require.NoError(t, stream.Send(&echo.Request{Message: fmt.Sprint("message ", i)}))
			reply, err := stream.Recv()
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint("message ", i), reply.Message)
		}
		require.NoError(t, stream.Close())
		_, err = stream.Recv()
		require.Equal(t, io.EOF, err)
	})
}

// seen is what a Kitex server finds in the context of a call.
type seen struct {
	Transient, Persistent string
	Values, Binary        []string
	Caller                string
}

func seenIn(ctx context.Context) seen {
	var s seen
	s.Transient, _ = metainfo.GetValue(ctx, "TRANSIENT_KEY")
	s.Persistent, _ = metainfo.GetPersistentValue(ctx, "PERSISTENT_KEY")
	md, _ := metadata.FromIncomingContext(ctx)
	s.Values, s.Binary = md.Get("x-many"), md.Get("x-some-bin")
	s.Caller = rpcinfo.GetRPCInfo(ctx).From().ServiceName()
	return s
}

var (
	wantSeen = seen{
		Transient: "for the next hop", Persistent: "for all hops",
		Values: []string{"b", "a", ""}, Binary: []string{"\x00\xff"}, Caller: "caller",
	}
	responseHeaders  = metadata.MD{"x-header": {"1", "2"}, "x-header-bin": {"\xff\x00"}}
	responseTrailers = metadata.MD{"x-trailer": {"3", "4"}, "x-trailer-bin": {"\x00\xff"}}
)

func withMetadata(ctx context.Context) context.Context {
	ctx = metainfo.WithValue(ctx, "TRANSIENT_KEY", wantSeen.Transient)
	ctx = metainfo.WithPersistentValue(ctx, "PERSISTENT_KEY", wantSeen.Persistent)
	return metadata.NewOutgoingContext(ctx, metadata.MD{"x-many": wantSeen.Values, "x-some-bin": wantSeen.Binary})
}

func wantMD(t testing.TB, got, want metadata.MD) {
	t.Helper()
	for k, v := range want {
		require.Equal(t, v, got.Get(k), k)
	}
}

func TestKitex_MetadataOfUnary(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		got := make(chan seen, 1)
		c := kitexPair(t, to, &testbed.Echo{OnSay: func(ctx context.Context, _ *echo.Request) (*echo.Reply, error) {
			got <- seenIn(ctx)
			return &echo.Reply{}, errors.Join(nphttp2.SetHeader(ctx, responseHeaders), nphttp2.SetTrailer(ctx, responseTrailers))
		}})
		var header, trailer metadata.MD
		ctx := nphttp2.GRPCTrailer(nphttp2.GRPCHeader(withMetadata(patient(t)), &header), &trailer)
		_, err := c.Say(ctx, &echo.Request{})
		require.NoError(t, err)
		require.Equal(t, wantSeen, testbed.Await(t, got, "the call at the server"))
		wantMD(t, header, responseHeaders)
		wantMD(t, trailer, responseTrailers)
	})
}

func TestKitex_MetadataOfStream(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		got := make(chan seen, 1)
		c := kitexPair(t, to, &testbed.Echo{OnChat: func(stream echo.Echo_ChatServer) error {
			got <- seenIn(stream.Context())
			stream.SetTrailer(responseTrailers)
			return stream.SendHeader(responseHeaders)
		}})
		stream, err := c.Chat(withMetadata(patient(t)))
		require.NoError(t, err)
		header, err := stream.Header()
		require.NoError(t, err)
		_, err = stream.Recv()
		require.Equal(t, io.EOF, err)
		require.Equal(t, wantSeen, testbed.Await(t, got, "the call at the server"))
		wantMD(t, header, responseHeaders)
		wantMD(t, stream.Trailer(), responseTrailers)
	})
}

func notFound() error {
	return kerrors.NewGRPCBizStatusErrorWithExtra(404, "no ☺ here", map[string]string{"item": "☺", "shop": "1"})
}

func wantNotFound(t testing.TB, err error) {
	t.Helper()
	biz, ok := kerrors.FromBizStatusError(err)
	if !ok {
		t.Fatalf("got %T %v, want a business error", err, err)
	}
	require.EqualValues(t, 404, biz.BizStatusCode())
	require.Equal(t, "no ☺ here", biz.BizMessage())
	require.Equal(t, map[string]string{"item": "☺", "shop": "1"}, biz.BizExtra())
}

func TestKitex_BusinessErrorOfUnary(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		c := kitexPair(t, to, &testbed.Echo{OnSay: func(context.Context, *echo.Request) (*echo.Reply, error) {
			return nil, notFound()
		}})
		_, err := c.Say(patient(t), &echo.Request{})
		wantNotFound(t, err)
	})
}

func TestKitex_BusinessErrorOfStreams(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		c := kitexPair(t, to, &testbed.Echo{
			OnChat: func(stream echo.Echo_ChatServer) error {
				if err := stream.Send(&echo.Reply{Message: "before"}); err != nil {
					return err
				}
				return notFound()
			},
			OnStream:  func(*echo.Request, echo.Echo_StreamServer) error { return notFound() },
			OnCollect: func(echo.Echo_CollectServer) error { return notFound() },
		})
		t.Run("bidi after a message", func(t *testing.T) {
			stream, err := c.Chat(patient(t))
			require.NoError(t, err)
			reply, err := stream.Recv()
			require.NoError(t, err)
			require.Equal(t, "before", reply.Message)
			_, err = stream.Recv()
			wantNotFound(t, err)
		})
		t.Run("server streaming", func(t *testing.T) {
			stream, err := c.Stream(patient(t), &echo.Request{})
			require.NoError(t, err)
			_, err = stream.Recv()
			wantNotFound(t, err)
		})
		t.Run("client streaming", func(t *testing.T) {
			stream, err := c.Collect(patient(t))
			require.NoError(t, err)
			_, err = stream.CloseAndRecv()
			wantNotFound(t, err)
		})
	})
}

// Kitex's server adds " [biz error]" to a status that a handler returns; framegate must not do it again.
func TestKitex_StatusError(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		c := kitexPair(t, to, &testbed.Echo{OnSay: func(context.Context, *echo.Request) (*echo.Reply, error) {
			return nil, status.Err(codes.FailedPrecondition, "not now")
		}})
		_, err := c.Say(patient(t), &echo.Request{})
		st, ok := status.FromError(err)
		require.True(t, ok, "a status; got %T %v", err, err)
		require.Equal(t, codes.FailedPrecondition, st.Code())
		require.Equal(t, "not now [biz error]", st.Message())
		_, ok = kerrors.FromBizStatusError(err)
		require.False(t, ok, "a business error")
	})
}

func TestKitex_Deadline(t *testing.T) {
	t.Parallel()
	const timeout = time.Second // in which a busy machine connects, too
	eachPath(t, func(t *testing.T, to via) {
		left := make(chan time.Duration, 1)
		ended := make(chan struct{}, 1)
		expired := make(chan struct{}, 1) // at the client
		sleep := func(ctx context.Context) error {
			deadline, _ := ctx.Deadline()
			left <- time.Until(deadline)
			<-ctx.Done()
			ended <- struct{}{}
			<-expired // so that the server's answer is not the faster one
			return ctx.Err()
		}
		c := kitexPair(t, to, &testbed.Echo{
			OnSay:  func(ctx context.Context, _ *echo.Request) (*echo.Reply, error) { return nil, sleep(ctx) },
			OnChat: func(stream echo.Echo_ChatServer) error { return sleep(stream.Context()) },
		})
		for name, do := range map[string]func(ctx context.Context) error{
			"unary": func(ctx context.Context) error {
				_, err := c.Say(ctx, &echo.Request{})
				// Kitex's client has its own error for it, and its own clock; framegate's may be the faster one.
				if kerrors.IsTimeoutError(err) || status.Code(err) == codes.DeadlineExceeded {
					return context.DeadlineExceeded
				}
				return err
			},
			"stream": func(ctx context.Context) error {
				stream, err := c.Chat(ctx)
				if err != nil {
					return err
				}
				_, err = stream.Recv()
				if status.Code(err) == codes.DeadlineExceeded {
					return context.DeadlineExceeded
				}
				return err
			},
		} {
			t.Run(name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(context.Background(), timeout)
				defer cancel()
				start := time.Now()
				err := do(ctx)
				expired <- struct{}{}
				require.Equal(t, context.DeadlineExceeded, err)
				require.Less(t, time.Since(start), timeout+inTime, "time until the client sees the expiry")
				got := testbed.Await(t, left, "the call at the server")
				require.Positive(t, got, "time left at the server")
				require.LessOrEqual(t, got, timeout, "time left at the server")
				testbed.Await(t, ended, "the end of the call at the server")
			})
		}
	})
}

// A grpc-go client of a Kitex server, and a Kitex client of a grpc-go server. The latter echoes bytes: a Request reads as
// a Reply.
func TestKitex_WithGRPCGo(t *testing.T) {
	t.Parallel()
	eachPath(t, func(t *testing.T, to via) {
		t.Run("grpc-go client", func(t *testing.T) {
			cc := testbed.DialGRPC(t, to(t, testbed.NewEcho(t, &testbed.Echo{})))
			request, err := (&echo.Request{Message: "hello"}).Marshal(nil)
			require.NoError(t, err)
			for _, method := range []string{"/echo.Echo/Say", "/echo.Echo/Collect", "/echo.Echo/Chat"} {
				var answer []byte
				require.NoError(t, cc.Invoke(patient(t), method, &request, &answer), method)
				var reply echo.Reply
				require.NoError(t, reply.Unmarshal(answer), method)
				require.Equal(t, "hello", reply.Message, method)
			}
		})
		t.Run("Kitex client", func(t *testing.T) {
			c := testbed.DialEcho(t, to(t, testbed.NewRaw(t, echoAll)))
			reply, err := c.Say(patient(t), &echo.Request{Message: "hello"})
			require.NoError(t, err)
			require.Equal(t, "hello", reply.Message)
			stream, err := c.Chat(patient(t))
			require.NoError(t, err)
			for _, m := range []string{"one", "two"} {
				require.NoError(t, stream.Send(&echo.Request{Message: m}))
				reply, err := stream.Recv()
				require.NoError(t, err)
				require.Equal(t, m, reply.Message)
			}
			require.NoError(t, stream.Close())
			_, err = stream.Recv()
			require.Equal(t, io.EOF, err)
		})
	})
}
