// Package schema knows the message types of services at run time: it reads .proto files and FileDescriptorSets, links them,
// and tells the types of a method's messages.
//
// Enter at Parse (a stored document), FromSet (the answer of a server's reflection) or Load (files on disk: load.go, then
// compile.go and edition.go). All three collect canonical files in a set (set.go, with its bounds in bounds.go) and link them
// (link.go). For that, graph.go sorts the files, names.go looks for names that are defined twice and wellknown.go adds
// google/protobuf.
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

// MaxBytes bounds the document of a schema (see Encode), which has no comments of .proto files. A document is one value in
// etcd, and etcd bounds a request to 1.5 MiB.
const MaxBytes = 1 << 20

// Schema is a linked set of .proto files: it has every type that one of them names. It is immutable, and may be used by any
// number of goroutines.
type Schema struct {
	doc     []byte
	files   *protoregistry.Files
	types   *dynamicpb.Types
	methods map[string]protoreflect.MethodDescriptor // by path
	sources []Source
}

// Parse links a FileDescriptorSet in wire format, as `protoc --include_imports -o` and `buf build -o` write it. Its
// files may be in any order. It adds google/protobuf/*.proto that are imported and missing. The error names each file with a
// mistake, and imports that are missing. A document of more than MaxBytes is an error. Even a hostile document takes bounded
// time and memory, see bounds.go. Parse keeps no part of doc.
func Parse(doc []byte) (*Schema, error) {
	if len(doc) > MaxBytes {
		return nil, fmt.Errorf("a FileDescriptorSet of %d bytes, want at most %d", len(doc), MaxBytes)
	}
	return parse(doc)
}

// FromSet is Parse for a FileDescriptorSet that is decoded already, such as one from a server's reflection. Comments in it do
// not count towards MaxBytes. It neither changes nor keeps the set.
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

// newSchema returns the schema of linked files; doc is their canonical document.
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

// Encode returns the canonical document of the schema: a FileDescriptorSet in wire format with all its files, each after
// those that it imports and else by name, without comments and positions (source_code_info). Parse makes the same schema of
// it, and the same files always give the same bytes. Callers must not change them.
func (s *Schema) Encode() []byte { return s.doc }

// Files returns the descriptors of all files. Callers must not register further files there.
func (s *Schema) Files() *protoregistry.Files { return s.files }

// Types returns the messages and extensions of the schema, to decode an Any and extension fields with.
func (s *Schema) Types() *dynamicpb.Types { return s.types }

// Method returns the method with a path such as /pkg.Service/Method, nil if the schema has none. It does not allocate.
func (s *Schema) Method(path string) protoreflect.MethodDescriptor { return s.methods[path] }

// Methods returns the paths of all methods, sorted.
func (s *Schema) Methods() []string { return slices.Sorted(maps.Keys(s.methods)) }

// Service is a service of a schema, for people.
type Service struct {
	Name    string // with its package
	Methods int
}

// Services returns all services, also those without methods, sorted by name.
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

// Sources returns the files on disk that Load read for the schema: those that it was given, and their imports. They are
// sorted by path. A schema that Load did not make has none. Callers must not change the slice.
func (s *Schema) Sources() []Source { return s.sources }
