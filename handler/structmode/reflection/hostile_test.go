package reflection

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	kitexcodes "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"

	"github.com/stretchr/testify/require"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
)

// serviceFile is the file of a service a.A with a method X(M) returns (M).
func serviceFile(imports ...string) *file {
	return &file{
		Name: proto.String("a.proto"), Package: proto.String("a"), Syntax: proto.String("proto3"), Dependency: imports,
		MessageType: []*message{{Name: proto.String("M")}},
		Service: []*descriptorpb.ServiceDescriptorProto{{
			Name: proto.String("A"),
			Method: []*descriptorpb.MethodDescriptorProto{
				{Name: proto.String("X"), InputType: proto.String(".a.M"), OutputType: proto.String(".a.M")},
			},
		}},
	}
}

// emptyFile is a file that imports others.
func emptyFile(path string, imports ...string) *file {
	return &file{Name: proto.String(path), Syntax: proto.String("proto3"), Dependency: imports}
}

func manyPaths(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("%d.proto", i))
	}
	return all
}

// answering answers the first question with a.A's file and the others by path.
func answering(root *file, others ...*file) func(*question) *answer {
	return func(q *question) *answer {
		if q.GetFileContainingSymbol() != "" {
			return answerFiles(q, root)
		}
		for _, f := range others {
			if f.GetName() == q.GetFileByFilename() {
				return answerFiles(q, f)
			}
		}
		return answerError(q, kitexcodes.NotFound, "no such file")
	}
}

// deep is a message with so many messages inside one another.
func deep(levels int) *message {
	m := &message{Name: proto.String("M")}
	for range levels - 1 {
		m = &message{Name: proto.String("M"), NestedType: []*message{m}}
	}
	return m
}

func TestFetch_RefusesWhatCannotBeUsed(t *testing.T) {
	field := func(typeName string) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{
			Name: proto.String("f"), Number: proto.Int32(1), TypeName: proto.String(typeName),
			Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
	}
	with := func(f *file, change func(*file)) *file {
		change(f)
		return f
	}
	for name, c := range map[string]struct {
		answer func(*question) *answer
		want   string
	}{
		"an empty answer": {
			func(q *question) *answer { return &answer{OriginalRequest: q} },
			`reflection: service a.A: symbol "a.A": the answer has neither files nor an error`,
		},
		"a list of services": {
			func(q *question) *answer {
				return &answer{MessageResponse: &reflectionpb.ServerReflectionResponse_ListServicesResponse{}}
			},
			"the answer has neither files nor an error",
		},
		"no file": {
			func(q *question) *answer { return answerFiles(q) },
			`symbol "a.A": no file of the answer defines this service: none`,
		},
		"a file of another service": {
			func(q *question) *answer {
				return answerFiles(q, with(serviceFile(), func(f *file) { f.Package = proto.String("b") }))
			},
			`no file of the answer defines this service: "a.proto"`,
		},
		"a message of the service's name": {
			func(q *question) *answer {
				return answerFiles(q, &file{
					Name: proto.String("a.proto"), Package: proto.String("a"), MessageType: []*message{{Name: proto.String("A")}},
				})
			},
			`no file of the answer defines this service: "a.proto"`,
		},
		"the answer to another question": {
			func(q *question) *answer {
				r := answerFiles(q, serviceFile())
				r.OriginalRequest = &question{
					MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "b.B"},
				}
				return r
			},
			"the answer is to another question: ",
		},
		"another file than asked for": {
			func(q *question) *answer {
				if q.GetFileByFilename() != "" {
					return answerFiles(q, emptyFile("c.proto"))
				}
				return answerFiles(q, serviceFile("b.proto"))
			},
			`imported by "a.proto": file "b.proto": the answer has other files: "c.proto"`,
		},
		"an import that it does not have and needs": {
			answering(with(serviceFile("b.proto"), func(f *file) {
				f.MessageType[0].Field = append(f.MessageType[0].Field, field(".b.B"))
			})),
			`imported by "a.proto": file "b.proto": the endpoint answers NotFound: "no such file"`,
		},
		"an import of an import that it does not have and needs": {
			answering(with(serviceFile("b.proto"), func(f *file) {
				f.MessageType[0].Field = append(f.MessageType[0].Field, field(".b.B"))
			}), with(emptyFile("b.proto", "c.proto"), func(f *file) {
				f.Package = proto.String("b")
				f.MessageType = []*message{{Name: proto.String("B"), Field: []*descriptorpb.FieldDescriptorProto{field(".c.C")}}}
			})),
			`imported by "b.proto": file "c.proto": the endpoint answers NotFound: "no such file"`,
		},
		"a public import that it does not have and needs": {
			answering(with(serviceFile("b.proto"), func(f *file) {
				f.Service[0].Method[0].InputType = proto.String(".c.C")
			}), with(emptyFile("b.proto", "c.proto"), func(f *file) { f.PublicDependency = []int32{0} })),
			`imported by "b.proto": file "c.proto": the endpoint answers NotFound: "no such file"`,
		},
		"an extension of a message that it does not have": {
			answering(with(serviceFile("b.proto"), func(f *file) {
				x := field("")
				x.TypeName, x.Type, x.Extendee = nil, descriptorpb.FieldDescriptorProto_TYPE_INT32.Enum(), proto.String(".b.B")
				f.Extension = append(f.Extension, x)
			})),
			`imported by "a.proto": file "b.proto": the endpoint answers NotFound: "no such file"`,
		},
		"more than it may lack": {
			answering(serviceFile(manyPaths(MaxFiles + 1)...)),
			"too many files, want at most 1024",
		},
		"an import without a name": {
			answering(serviceFile("")),
			`file "": imported by "a.proto": want a path`,
		},
		"bytes that are no descriptor": {
			func(q *question) *answer { return answerRaw(q, []byte{0xff, 0xff, 0xff}) },
			`symbol "a.A": descriptor 0 of the answer: malformed protobuf`,
		},
		"an import that is no UTF-8": {
			answering(serviceFile("b\xff.proto")),
			`file "b\xff.proto": `,
		},
		"a file without a name": {
			func(q *question) *answer { return answerFiles(q, serviceFile(), &file{}) },
			"descriptor 1 of the answer: no name, want the path of the file",
		},
		"a file that imports itself": {
			answering(serviceFile("a.proto")),
			`file "a.proto": imports itself: "a.proto" "a.proto"`,
		},
		"a cycle of imports": {
			answering(serviceFile("b.proto"), emptyFile("b.proto", "c.proto"), emptyFile("c.proto", "b.proto")),
			`file "b.proto": imports itself: "b.proto" "c.proto" "b.proto"`,
		},
		"a file with two contents": {
			func(q *question) *answer {
				return answerFiles(q, serviceFile(), with(serviceFile(), func(f *file) { f.Syntax = nil }))
			},
			`file "a.proto": came twice with different content`,
		},
		"a type that nobody declares": {
			answering(with(serviceFile(), func(f *file) {
				f.MessageType[0].Field = append(f.MessageType[0].Field, field(".a.Nobody"))
			})),
			`service "a.A": the files do not fit together: `,
		},
		"a name that is declared twice": {
			answering(with(serviceFile(), func(f *file) { f.MessageType = append(f.MessageType, f.MessageType[0]) })),
			"the files do not fit together: ",
		},
		"two files with the same declarations": {
			answering(serviceFile("b.proto"), with(serviceFile(), func(f *file) { f.Name = proto.String("b.proto") })),
			"the files do not fit together: ",
		},
		"a public import that does not exist": {
			answering(with(serviceFile(), func(f *file) { f.PublicDependency = []int32{7, -1} })),
			"the files do not fit together: ",
		},
		"a syntax of the future": {
			answering(with(serviceFile(), func(f *file) { f.Syntax = proto.String("proto9") })),
			"the files do not fit together: ",
		},
		"protoc's own message under another path": {
			answering(serviceFile("b.proto"), &file{
				Name: proto.String("b.proto"), Package: proto.String("google"),
				MessageType: []*message{{
					Name: proto.String("protobuf"), NestedType: []*message{{Name: proto.String("Timestamp")}},
				}},
			}),
			`file "b.proto": declares "google.protobuf.Timestamp", which comes with protoc`,
		},
		"protoc's own enum under another path": {
			answering(serviceFile("b.proto"), &file{
				Name: proto.String("b.proto"), Package: proto.String("google.protobuf"),
				EnumType: []*descriptorpb.EnumDescriptorProto{{
					Name:  proto.String("NullValue"),
					Value: []*descriptorpb.EnumValueDescriptorProto{{Name: proto.String("N"), Number: proto.Int32(0)}},
				}},
			}),
			`file "b.proto": declares "google.protobuf.NullValue"`,
		},
		"messages inside one another without end": {
			answering(with(serviceFile(), func(f *file) { f.MessageType = append(f.MessageType, deep(500)) })),
			"too many messages inside one another, want at most 64",
		},
		"a long error": {
			func(q *question) *answer { return answerError(q, 999, strings.Repeat("x", 1<<20)) },
			`symbol "a.A": the endpoint answers Code(999): "xxx`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Fetch(t.Context(), serveAnswers(t, c.answer), "a.A")
			require.ErrorContains(t, err, c.want)
			require.Less(t, len(err.Error()), 2000)
			require.NotErrorIs(t, err, ErrMissing, "a broken schema is not a missing service")
			var protocol *ProtocolError
			var answer *AnswerError
			require.True(t, errors.As(err, &protocol) || errors.As(err, &answer) || errors.As(err, new(*LimitError)), err)
		})
	}
}

func TestFetch_UsesItsOwnFilesOfProtoc(t *testing.T) {
	fake := &file{
		Name: proto.String("google/protobuf/timestamp.proto"), Package: proto.String("google.protobuf"),
		MessageType: []*message{{Name: proto.String("Timestamp")}}, // without its fields
	}
	root := serviceFile("google/protobuf/timestamp.proto", "google/protobuf/cpp_features.proto")
	set, err := Fetch(t.Context(), serveAnswers(t, func(q *question) *answer { return answerFiles(q, fake, root) }), "a.A")
	require.NoError(t, err)
	requireLinks(t, set)
	require.Len(t, set.GetFile()[0].GetMessageType()[0].GetField(), 2)
}

func TestFetch_AcceptsAFileThatComesTwice(t *testing.T) {
	root := serviceFile("b.proto")
	raw, err := proto.Marshal(root)
	require.NoError(t, err)
	name := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "a.proto")
	reordered := append(bytes.Clone(raw[len(name):]), raw[:len(name)]...)
	open := serveAnswers(t, func(q *question) *answer {
		b, _ := proto.Marshal(emptyFile("b.proto"))
		return answerRaw(q, raw, raw, reordered, b)
	})
	set, err := Fetch(t.Context(), open, "a.A")
	require.NoError(t, err)
	require.Equal(t, []string{"b.proto", "a.proto"}, paths(set))
}

func TestFetch_StopsAtItsBounds(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(*question) *answer
		want   LimitError
	}{
		"files without end": {
			func(q *question) *answer {
				n := 0
				if _, err := fmt.Sscanf(q.GetFileByFilename(), "%d.proto", &n); err != nil {
					return answerFiles(q, serviceFile("1.proto"))
				}
				return answerFiles(q, emptyFile(q.GetFileByFilename(), fmt.Sprintf("%d.proto", n+1)))
			},
			LimitError{"files", MaxFiles},
		},
		"bytes in many answers": {
			func(q *question) *answer {
				if q.GetFileContainingSymbol() != "" {
					return answerFiles(q, serviceFile("1.proto", "2.proto", "3.proto"))
				}
				f := emptyFile(q.GetFileByFilename())
				f.Syntax = proto.String(strings.Repeat("x", MaxBytes/3))
				return answerFiles(q, f)
			},
			LimitError{"bytes of answers", MaxBytes},
		},
		"many small messages": {
			func(q *question) *answer {
				f := serviceFile()
				for range MaxElements {
					f.MessageType = append(f.MessageType, &message{})
				}
				return answerFiles(q, f)
			},
			LimitError{"messages and list elements", MaxElements},
		},
		"many empty files": {
			func(q *question) *answer { return answerRaw(q, make([][]byte, MaxElements+1)...) },
			LimitError{"messages and list elements", MaxElements},
		},
		"a long name around many": {
			func(q *question) *answer {
				f := serviceFile()
				m := &message{Name: proto.String(strings.Repeat("x", MaxNameBytes/1000))}
				for i := range 1000 {
					m.OneofDecl = append(m.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: proto.String(fmt.Sprint("o", i))})
				}
				f.MessageType = append(f.MessageType, m)
				return answerFiles(q, f)
			},
			LimitError{"bytes of full names", MaxNameBytes},
		},
		"more paths of public imports than can be walked": { // as many as the Fibonacci numbers
			func(q *question) *answer {
				all := []*file{serviceFile("200.proto"), emptyFile("0.proto"), emptyFile("1.proto")}
				for i := 2; i <= 200; i++ {
					f := emptyFile(fmt.Sprintf("%d.proto", i), fmt.Sprintf("%d.proto", i-1), fmt.Sprintf("%d.proto", i-2))
					f.PublicDependency = []int32{0, 1}
					all = append(all, f)
				}
				return answerFiles(q, all...)
			},
			LimitError{"paths through public imports", MaxImportSteps},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Fetch(t.Context(), serveAnswers(t, c.answer), "a.A")
			var limit *LimitError
			require.ErrorAs(t, err, &limit)
			require.Equal(t, c.want, *limit)
			require.Less(t, len(err.Error()), 5000)
		})
	}
}

// replay is a Stream of answers that are there before the questions.
type replay struct{ answers [][]byte }

func (s *replay) Send([]byte) error { return nil }
func (s *replay) Close()            {}
func (s *replay) Recv() ([]byte, error) {
	if len(s.answers) == 0 {
		return nil, io.EOF
	}
	msg := s.answers[0]
	s.answers = s.answers[1:]
	return msg, nil
}

// FuzzFetch gives Fetch two answers that are any bytes, the second one again and again.
func FuzzFetch(f *testing.F) {
	q := &question{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "a.A"}}
	add := func(first, second *answer) {
		a, err := proto.Marshal(first)
		require.NoError(f, err)
		b, err := proto.Marshal(second)
		require.NoError(f, err)
		f.Add(a, b)
	}
	add(answerFiles(q, serviceFile()), &answer{})
	add(answerError(q, kitexcodes.NotFound, "no"), &answer{})
	add(answerFiles(q, serviceFile("b.proto", "google/protobuf/any.proto")), answerFiles(nil, emptyFile("b.proto", "a.proto")))
	rich := compile(f, map[string]string{"rich.proto": `edition = "2023"; package a;
		import "google/protobuf/descriptor.proto";
		extend google.protobuf.FieldOptions { string note = 50000; }
		message M {
			option message_set_wire_format = false;
			reserved 10 to 20; extensions 100 to max; map<string, M> m = 1 [(note) = "x"];
			oneof o { int32 i = 2 [default = 7]; E e = 3 [default = ONE]; N n = 4 [features.message_encoding = DELIMITED]; }
			enum E { option allow_alias = true; ZERO = 0; ONE = 1; UNO = 1; }
			message N { repeated sint64 s = 1; bytes b = 2 [default = "\001"]; }
		}
		service A { rpc X(stream M) returns (stream M.N); }`})
	fd, err := rich.FindFileByPath("rich.proto")
	require.NoError(f, err)
	add(answerFiles(q, protodesc.ToFileDescriptorProto(fd)), &answer{})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		open := func(context.Context, string) (Stream, error) {
			return &replay{answers: [][]byte{first, second, second, second}}, nil
		}
		set, err := Fetch(t.Context(), open, "a.A")
		if err != nil {
			require.Nil(t, set)
			return
		}
		requireLinks(t, set)
	})
}
