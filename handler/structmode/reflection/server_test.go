package reflection

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"testing"

	kitexcodes "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	kitexstatus "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Short names of what the tests are about.
type (
	question = reflectionpb.ServerReflectionRequest
	answer   = reflectionpb.ServerReflectionResponse
	file     = descriptorpb.FileDescriptorProto
	message  = descriptorpb.DescriptorProto
)

// serve runs a grpc-go server until the end of the test and returns an Opener of streams to it.
func serve(t *testing.T, register func(*grpc.Server)) Opener {
	t.Helper()
	s := grpc.NewServer()
	register(s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		require.NoError(t, <-served)
	})
	return dial(t, l.Addr().String())
}

// dial returns an Opener of streams to a gRPC server.
func dial(t *testing.T, addr string) Opener {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return func(ctx context.Context, method string) (Stream, error) {
		ctx, cancel := context.WithCancel(ctx)
		desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
		s, err := conn.NewStream(ctx, desc, method, grpc.ForceCodec(payloadCodec{}))
		if err != nil {
			cancel()
			return nil, kitexError(err)
		}
		return &clientStream{s: s, cancel: cancel}, nil
	}
}

// clientStream is a Stream of a grpc-go client.
type clientStream struct {
	s      grpc.ClientStream
	cancel context.CancelFunc
}

func (s *clientStream) Send(msg []byte) error { return kitexError(s.s.SendMsg(&msg)) }

func (s *clientStream) Recv() ([]byte, error) {
	var msg []byte
	err := s.s.RecvMsg(&msg)
	return msg, kitexError(err)
}

func (s *clientStream) Close() { s.cancel() }

// kitexError gives a status of grpc-go the type that Kitex's streams have.
func kitexError(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	s := status.Convert(err)
	return kitexstatus.Err(kitexcodes.Code(s.Code()), s.Message())
}

// payloadCodec passes payloads as they are.
type payloadCodec struct{}

func (payloadCodec) Name() string                  { return "proto" }
func (payloadCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (payloadCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

// compile compiles sources, by path.
func compile(t testing.TB, sources map[string]string) linker.Resolver {
	t.Helper()
	c := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(sources),
	})}
	files, err := c.Compile(context.Background(), slices.Collect(maps.Keys(sources))...)
	require.NoError(t, err)
	return files.AsResolver()
}

// answers is a reflection service that answers with a function.
type answers struct {
	reflectionpb.UnimplementedServerReflectionServer
	answer func(*question) (*answer, error)
}

func (a answers) ServerReflectionInfo(s grpc.BidiStreamingServer[question, answer]) error {
	for {
		q, err := s.Recv()
		if err != nil {
			return nil // the client has closed the stream
		}
		r, err := a.answer(q)
		if err != nil {
			return err
		}
		if err := s.Send(r); err != nil {
			return nil
		}
	}
}

// serveAnswers runs a server of v1 that answers with a function.
func serveAnswers(t *testing.T, reply func(*question) *answer) Opener {
	t.Helper()
	return serve(t, func(s *grpc.Server) {
		reflectionpb.RegisterServerReflectionServer(s, answers{
			answer: func(q *question) (*answer, error) { return reply(q), nil },
		})
	})
}

// answerRaw is an answer with files as they are.
func answerRaw(q *question, files ...[]byte) *answer {
	return &answer{
		OriginalRequest: q,
		MessageResponse: &reflectionpb.ServerReflectionResponse_FileDescriptorResponse{
			FileDescriptorResponse: &reflectionpb.FileDescriptorResponse{FileDescriptorProto: files},
		},
	}
}

// answerFiles is an answer with files.
func answerFiles(q *question, files ...*file) *answer {
	var raw [][]byte
	for _, f := range files {
		b, err := proto.Marshal(f)
		if err != nil {
			panic(err) // a test's own mistake, on a server's goroutine
		}
		raw = append(raw, b)
	}
	return answerRaw(q, raw...)
}

// answerError is an error_response.
func answerError(q *question, code kitexcodes.Code, message string) *answer {
	return &answer{
		OriginalRequest: q,
		MessageResponse: &reflectionpb.ServerReflectionResponse_ErrorResponse{
			ErrorResponse: &reflectionpb.ErrorResponse{ErrorCode: int32(code), ErrorMessage: message},
		},
	}
}

// paths returns the paths of a set, in its order.
func paths(set *descriptorpb.FileDescriptorSet) []string {
	var list []string
	for _, f := range set.GetFile() {
		list = append(list, f.GetName())
	}
	return list
}

// requireLinks checks that a set links, and that its files come after their imports.
func requireLinks(t *testing.T, set *descriptorpb.FileDescriptorSet) {
	t.Helper()
	_, err := protodesc.NewFiles(set)
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, f := range set.GetFile() {
		for _, d := range f.GetDependency() {
			require.True(t, seen[d], "%s comes before its import %s", f.GetName(), d)
		}
		seen[f.GetName()] = true
	}
}
