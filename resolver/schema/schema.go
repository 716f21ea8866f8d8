// Package schema knows the message types of services that are named at run time: it reads .proto files and
// FileDescriptorSets, links them and answers which messages a method takes and gives.
//
// Enter at Parse (a stored document), FromSet (what a server says of itself) or Load (files of people: load.go, then
// compile.go). All three collect canonical files in set.go, whose bounds are in bounds.go, and link them in link.go,
// where graph.go puts them in order, names.go looks for names that meet and wellknown.go adds google/protobuf.
package schema

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// MaxBytes is the most that a schema may have as a document (see Encode). A document is one value in etcd, whose
// requests may have 1.5 MiB; the comments of .proto files are no part of it.
const MaxBytes = 1 << 20

// Schema is a linked set of .proto files: every type that one of them names is there. It does not change and may be
// used by many goroutines.
type Schema struct {
	doc     []byte
	files   *protoregistry.Files
	types   *dynamicpb.Types
	methods map[string]protoreflect.MethodDescriptor // by path
	sources []Source
}

// Parse links a FileDescriptorSet in wire format, as `protoc --include_imports -o` and `buf build -o` write it. Its
// files may be in any order. Imports of google/protobuf/*.proto that it lacks are added. The error names each file that
// is wrong and what it lacks. A document of more than MaxBytes is an error; hostile ones cost bounded time and memory,
// see bounds.go. Parse keeps no part of doc.
func Parse(doc []byte) (*Schema, error) {
	if len(doc) > MaxBytes {
		return nil, fmt.Errorf("a FileDescriptorSet of %d bytes, want at most %d", len(doc), MaxBytes)
	}
	return parse(doc)
}

// FromSet is Parse for a FileDescriptorSet that is decoded already, such as one that a server's reflection gave. The
// comments in it do not count towards MaxBytes. It does not change or keep the set.
func FromSet(decoded *descriptorpb.FileDescriptorSet) (*Schema, error) {
	if size := proto.Size(decoded); size > maxInputBytes {
		return nil, fmt.Errorf("a FileDescriptorSet of %d bytes, want at most %d", size, maxInputBytes)
	}
	doc, err := proto.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(decoded)
	if err != nil {
		return nil, fmt.Errorf("a FileDescriptorSet that has no wire format: %w", err)
	}
	return parse(doc)
}

func parse(doc []byte) (*Schema, error) {
	files := newSet()
	var wrong mistakes
	files.addDocument("", doc, &wrong)
	if err := wrong.err(); err != nil {
		return nil, err
	}
	return link(files)
}

// newSchema indexes files, which are linked; doc is their canonical document.
func newSchema(files *protoregistry.Files, doc []byte) *Schema {
	s := &Schema{
		doc:     doc,
		files:   files,
		types:   dynamicpb.NewTypes(files),
		methods: map[string]protoreflect.MethodDescriptor{},
	}
	files.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			methods := f.Services().Get(i).Methods()
			for j := range methods.Len() {
				m := methods.Get(j)
				s.methods["/"+string(m.Parent().FullName())+"/"+string(m.Name())] = m
			}
		}
		return true
	})
	return s
}

// Encode returns the canonical document of the schema: a FileDescriptorSet in wire format with all files that it needs,
// each after those that it imports and else by name, without comments and positions (source_code_info). Parse makes the
// same schema of it, and the same files always give the same bytes. Callers must not change them.
func (s *Schema) Encode() []byte { return s.doc }

// Files returns the descriptors of all files. Callers must not register any more there.
func (s *Schema) Files() *protoregistry.Files { return s.files }

// Types returns the messages and extensions of the schema, to decode an Any and extension fields with.
func (s *Schema) Types() *dynamicpb.Types { return s.types }

// Method returns the method with a path such as /pkg.Service/Method, nil if the schema has none. It does not allocate.
func (s *Schema) Method(path string) protoreflect.MethodDescriptor { return s.methods[path] }

// Methods returns the paths of all methods, sorted.
func (s *Schema) Methods() []string { return slices.Sorted(maps.Keys(s.methods)) }

// Service is a service of a schema, for people to read.
type Service struct {
	Name    string // with its package
	Methods int
}

// Services returns the services by name, those without methods too.
func (s *Schema) Services() []Service {
	var all []Service
	s.files.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			service := f.Services().Get(i)
			all = append(all, Service{Name: string(service.FullName()), Methods: service.Methods().Len()})
		}
		return true
	})
	slices.SortFunc(all, func(a, b Service) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Sources returns the files on disk that Load read for the schema, those that it was given and their imports, by path.
// A schema that Load did not make has none. Callers must not change the slice.
func (s *Schema) Sources() []Source { return s.sources }
