package reflection

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	kitexcodes "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	kitexstatus "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcreflection "google.golang.org/grpc/reflection"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	alphapb "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// shop is a service whose messages are in several files, with imports that are public, twice reached, and protoc's own.
var shop = map[string]string{
	"shop/service.proto": `syntax = "proto3"; package shop;
		import "shop/order.proto"; import "shop/all.proto"; import "google/protobuf/empty.proto";
		service Shop {
			rpc Buy(Order) returns (Receipt);
			rpc Watch(google.protobuf.Empty) returns (stream Order);
		}`,
	"shop/order.proto": `syntax = "proto3"; package shop; import "shop/money.proto"; import "google/protobuf/timestamp.proto";
		message Order { string id = 1; Money price = 2; google.protobuf.Timestamp at = 3; }`,
	"shop/all.proto":     `syntax = "proto3"; package shop; import public "shop/receipt.proto"; import public "shop/money.proto";`,
	"shop/receipt.proto": `syntax = "proto2"; package shop; import "shop/money.proto"; message Receipt { optional Money total = 1; }`,
	"shop/money.proto":   `edition = "2023"; package shop; message Money { string currency = 1; int64 units = 2; }`,
}

var shopPaths = []string{
	"shop/money.proto", "google/protobuf/timestamp.proto", "shop/order.proto", "shop/receipt.proto", "shop/all.proto",
	"google/protobuf/empty.proto", "shop/service.proto",
}

func TestFetch_ReturnsTheFilesOfRealServersInBothVersions(t *testing.T) {
	files := compile(t, shop)
	opts := grpcreflection.ServerOptions{DescriptorResolver: files}
	for name, register := range map[string]func(*grpc.Server){
		"v1": func(s *grpc.Server) {
			reflectionpb.RegisterServerReflectionServer(s, grpcreflection.NewServerV1(opts))
		},
		"v1alpha": func(s *grpc.Server) {
			alphapb.RegisterServerReflectionServer(s, grpcreflection.NewServer(opts))
		},
		"both": func(s *grpc.Server) {
			reflectionpb.RegisterServerReflectionServer(s, grpcreflection.NewServerV1(opts))
			alphapb.RegisterServerReflectionServer(s, grpcreflection.NewServer(opts))
		},
	} {
		t.Run(name, func(t *testing.T) {
			set, err := Fetch(t.Context(), serve(t, register), "shop.Shop")
			require.NoError(t, err)
			require.Equal(t, shopPaths, paths(set))
			requireLinks(t, set)
		})
	}
}

func TestFetch_ReturnsWhatIsLinkedIntoAGoServer(t *testing.T) {
	for name, register := range map[string]func(*grpc.Server){
		"Register":   func(s *grpc.Server) { grpcreflection.Register(s) },
		"RegisterV1": func(s *grpc.Server) { grpcreflection.RegisterV1(s) },
	} {
		t.Run(name, func(t *testing.T) {
			set, err := Fetch(t.Context(), serve(t, register), "grpc.reflection.v1.ServerReflection")
			require.NoError(t, err)
			requireLinks(t, set)
			files, err := protodesc.NewFiles(set)
			require.NoError(t, err)
			d, err := files.FindDescriptorByName("grpc.reflection.v1.ServerReflection")
			require.NoError(t, err)
			require.Equal(t, 1, d.(protoreflect.ServiceDescriptor).Methods().Len())
		})
	}
}

// Servers may send one file at a time, and need not have the files of protoc, nor repeat the question.
func TestFetch_AsksForEachFileThatAServerDoesNotSendByItself(t *testing.T) {
	files := compile(t, shop)
	var asked []string
	open := serveAnswers(t, func(q *question) *answer {
		path := q.GetFileByFilename()
		if q.GetFileContainingSymbol() != "" {
			path = "shop/service.proto"
		}
		asked = append(asked, path)
		f, err := files.FindFileByPath(path)
		if err != nil {
			return answerError(q, kitexcodes.NotFound, err.Error())
		}
		r := answerFiles(q, protodesc.ToFileDescriptorProto(f))
		r.OriginalRequest = nil
		return r
	})
	set, err := Fetch(t.Context(), open, "shop.Shop")
	require.NoError(t, err)
	require.Equal(t, shopPaths, paths(set))
	requireLinks(t, set)
	require.Equal(t, []string{
		"shop/service.proto", "shop/order.proto", "shop/money.proto", "shop/all.proto", "shop/receipt.proto",
	}, asked)
}

// Generated code need not be linked for what only options use: then a server lacks files that its files import.
func TestFetch_DoesWithoutFilesThatOnlyOptionsImport(t *testing.T) {
	sources := map[string]string{
		"rules.proto": `syntax = "proto3"; package rules; import "google/protobuf/descriptor.proto"; import "more.proto";
			extend google.protobuf.MethodOptions { Rule rule = 50001; } extend google.protobuf.FieldOptions { string check = 50001; }
			message Rule { string path = 1; more.More more = 2; }`,
		"more.proto":    `syntax = "proto3"; package more; message More { int32 n = 1; }`,
		"visible.proto": `syntax = "proto3"; package visible; import public "rules.proto"; import public "money.proto";`,
		"money.proto":   `syntax = "proto3"; package money; message Money { int64 units = 1 [(rules.check) = "> 0"]; } `,
		"order.proto": `syntax = "proto3"; package shop; import "rules.proto"; import "visible.proto"; import weak "more.proto";
			message Order { money.Money price = 1 [(rules.check) = "yes"]; }
			service Shop { rpc Buy(Order) returns (Order) { option (rules.rule) = {path: "/buy", more: {n: 7}}; } }`,
	}
	sources["money.proto"] = strings.Replace(sources["money.proto"], "package", `import "rules.proto"; package`, 1)
	whole := compile(t, sources)
	for name, lacking := range map[string][]string{
		"nothing":                      nil,
		"options":                      {"rules.proto"},
		"options and what they import": {"rules.proto", "more.proto"},
		"what options import":          {"more.proto"}, // so that rules.proto does not link
	} {
		t.Run(name, func(t *testing.T) {
			have := &protoregistry.Files{} // as the registry of a Go server, where what is not linked is a placeholder
			for _, path := range []string{"more.proto", "rules.proto", "money.proto", "visible.proto", "order.proto"} {
				if slices.Contains(lacking, path) {
					continue
				}
				f, err := whole.FindFileByPath(path)
				require.NoError(t, err)
				fd, err := protodesc.FileOptions{AllowUnresolvable: true}.New(protodesc.ToFileDescriptorProto(f), withStandard{have})
				require.NoError(t, err)
				require.NoError(t, have.RegisterFile(fd))
			}
			set, err := Fetch(t.Context(), serve(t, func(s *grpc.Server) {
				reflectionpb.RegisterServerReflectionServer(s, grpcreflection.NewServerV1(grpcreflection.ServerOptions{DescriptorResolver: have}))
			}), "shop.Shop")
			require.NoError(t, err)
			requireLinks(t, set)
			for _, path := range lacking {
				require.NotContains(t, paths(set), path)
			}
			files, err := protodesc.NewFiles(set)
			require.NoError(t, err)
			d, err := files.FindDescriptorByName("shop.Order")
			require.NoError(t, err)
			require.Equal(t, protoreflect.FullName("money.Money"), d.(protoreflect.MessageDescriptor).Fields().ByName("price").Message().FullName())
			require.False(t, d.(protoreflect.MessageDescriptor).Fields().ByName("price").Message().IsPlaceholder())
			root := set.GetFile()[len(set.GetFile())-1]
			require.NotEmpty(t, root.GetService()[0].GetMethod()[0].GetOptions().ProtoReflect().GetUnknown(), "options stay")
		})
	}
}

// withStandard finds google/protobuf/*.proto too.
type withStandard struct{ *protoregistry.Files }

func (w withStandard) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if strings.HasPrefix(path, "google/protobuf/") {
		return protoregistry.GlobalFiles.FindFileByPath(path)
	}
	return w.Files.FindFileByPath(path)
}

func TestFetch_DropsCommentsAndFilesThatAreNotNeeded(t *testing.T) {
	files := compile(t, shop)
	open := serveAnswers(t, func(q *question) *answer {
		all := []*file{emptyFile("other.proto", "nowhere.proto")}
		for path := range shop {
			f, _ := files.FindFileByPath(path)
			p := protodesc.ToFileDescriptorProto(f)
			p.SourceCodeInfo = &descriptorpb.SourceCodeInfo{}
			location := &descriptorpb.SourceCodeInfo_Location{Span: []int32{1, 2, 3}}
			for range MaxElements / 3 { // more in all than there may be of what is kept
				p.SourceCodeInfo.Location = append(p.SourceCodeInfo.Location, location)
			}
			all = append(all, p)
		}
		return answerFiles(q, all...)
	})
	set, err := Fetch(t.Context(), open, "shop.Shop")
	require.NoError(t, err)
	require.Equal(t, shopPaths, paths(set))
	for _, f := range set.GetFile() {
		require.Nil(t, f.GetSourceCodeInfo(), f.GetName())
	}
}

func TestFetch_TellsAnUnknownServiceFromNoReflection(t *testing.T) {
	open := serve(t, func(s *grpc.Server) { grpcreflection.Register(s) })
	_, err := Fetch(t.Context(), open, "no.Such")
	require.ErrorIs(t, err, ErrMissing)
	var answer *AnswerError
	require.ErrorAs(t, err, &answer)
	require.Equal(t, kitexcodes.NotFound, answer.Code)
	require.Equal(t, `symbol "no.Such"`, answer.Asked)

	open = serve(t, func(*grpc.Server) {})
	_, err = Fetch(t.Context(), open, "no.Such")
	require.ErrorIs(t, err, ErrUnimplemented)
	require.NotErrorIs(t, err, ErrMissing)
}

func TestFetch_ReportsTheStatusOfAStream(t *testing.T) {
	asked := 0
	open := serve(t, func(s *grpc.Server) {
		reflectionpb.RegisterServerReflectionServer(s, answers{
			answer: func(*question) (*answer, error) {
				asked++
				return nil, status.Error(codes.PermissionDenied, "not for you")
			},
		})
	})
	_, err := Fetch(t.Context(), open, "shop.Shop")
	s, ok := kitexstatus.FromError(err)
	require.True(t, ok, err)
	require.Equal(t, kitexcodes.PermissionDenied, s.Code())
	require.Equal(t, 1, asked)
}

// UNIMPLEMENTED after an answer is not about the version.
func TestFetch_DoesNotTryTheOtherVersionAfterAnAnswer(t *testing.T) {
	files := compile(t, shop)
	root, err := files.FindFileByPath("shop/service.proto")
	require.NoError(t, err)
	open := serve(t, func(s *grpc.Server) {
		reflectionpb.RegisterServerReflectionServer(s, answers{
			answer: func(q *question) (*answer, error) {
				if q.GetFileByFilename() != "" {
					return nil, status.Error(codes.Unimplemented, "no files by name")
				}
				return answerFiles(q, protodesc.ToFileDescriptorProto(root)), nil
			},
		})
	})
	_, err = Fetch(t.Context(), open, "shop.Shop")
	require.ErrorContains(t, err, "no files by name")
	require.NotErrorIs(t, err, ErrUnimplemented)
}

func TestFetch_EndsWithItsContext(t *testing.T) {
	got := make(chan struct{})
	release := make(chan struct{})
	open := serveAnswers(t, func(q *question) *answer {
		close(got)
		<-release
		return answerFiles(q)
	})
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-got
		cancel()
	}()
	_, err := Fetch(ctx, open, "shop.Shop")
	require.ErrorIs(t, err, context.Canceled)

	ctx, cancel = context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	_, err = Fetch(ctx, open, "shop.Shop")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// stuckStream waits in Recv until it is closed.
type stuckStream struct {
	t      *testing.T
	closed chan struct{}
	ready  chan struct{}
}

func (s *stuckStream) Send([]byte) error { return nil }
func (s *stuckStream) Recv() ([]byte, error) {
	close(s.ready)
	<-s.closed
	return nil, io.ErrUnexpectedEOF
}
func (s *stuckStream) Close() { close(s.closed) } // a second time would panic

func TestFetch_ClosesAStreamThatDoesNotHearOfTheContextExactlyOnce(t *testing.T) {
	s := &stuckStream{t: t, closed: make(chan struct{}), ready: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-s.ready
		cancel()
	}()
	_, err := Fetch(ctx, func(context.Context, string) (Stream, error) { return s, nil }, "shop.Shop")
	require.ErrorIs(t, err, context.Canceled)
	<-s.closed
}

func TestFetch_OpensNothingForANameThatIsNone(t *testing.T) {
	for _, name := range []string{"", "shop", "a..b", "a b", "/shop.Shop"} {
		opened := false
		_, err := Fetch(t.Context(), func(context.Context, string) (Stream, error) {
			opened = true
			return nil, errors.New("no stream")
		}, name)
		require.Error(t, err)
		require.Equal(t, name == "shop", opened, name)
	}
}

// The two versions have the same messages on the wire, so that those of v1 serve both.
func TestMethods_HaveTheSameMessages(t *testing.T) {
	v1, alpha := reflectionpb.File_grpc_reflection_v1_reflection_proto, alphapb.File_grpc_reflection_v1alpha_reflection_proto
	require.Equal(t, v1.Messages().Len(), alpha.Messages().Len())
	for i := range v1.Messages().Len() {
		a := v1.Messages().Get(i)
		b := alpha.Messages().ByName(a.Name())
		require.NotNil(t, b, a.Name())
		require.Equal(t, a.Fields().Len(), b.Fields().Len(), a.Name())
		for j := range a.Fields().Len() {
			f := a.Fields().Get(j)
			g := b.Fields().ByNumber(f.Number())
			require.NotNil(t, g, f.FullName())
			require.Equal(t, f.Name(), g.Name())
			require.Equal(t, f.Kind(), g.Kind(), f.FullName())
			require.Equal(t, f.Cardinality(), g.Cardinality(), f.FullName())
		}
	}
}
