package schema

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// file is one .proto file of a schema, compiled and not linked yet.
type file struct {
	proto  *descriptorpb.FileDescriptorProto
	raw    []byte // proto in its canonical form
	origin string // the file on disk that it came from; "" if it did not come from disk
}

// set collects the files of a schema by their paths. It is owned by one goroutine.
type set struct {
	files   map[string]*file
	counter counter
}

func newSet() *set { return &set{files: map[string]*file{}} }

// Field numbers of descriptor.proto.
const (
	fieldFile           = 1 // FileDescriptorSet.file
	fieldSourceCodeInfo = 9 // FileDescriptorProto.source_code_info
)

var (
	fileDescriptor = (*descriptorpb.FileDescriptorProto)(nil).ProtoReflect().Descriptor()

	// Without a Resolver that has types, all options stay unknown bytes, also those that the Go runtime happens to know.
	decode = proto.UnmarshalOptions{AllowPartial: true, Resolver: (*protoregistry.Types)(nil)}
	encode = proto.MarshalOptions{AllowPartial: true, Deterministic: true}
)

// addDocument adds the files of a FileDescriptorSet in wire format, which came from the file origin, or from no file if that
// is "". It adds the mistakes of all files to wrong.
func (s *set) addDocument(origin string, doc []byte, wrong *mistakes) {
	note := func(err error) {
		if err != nil && origin != "" {
			err = fmt.Errorf("%s: %w", origin, err)
		}
		wrong.add(err)
	}
	found := false
	err := eachField(doc, func(num protowire.Number, value, _ []byte) error {
		if num != fieldFile {
			return nil
		}
		if value == nil {
			return errMalformed
		}
		found = true
		fd, err := s.decode(value)
		if err == nil {
			note(s.add(origin, fd))
		}
		return err
	})
	if err == nil && !found {
		err = errNoFiles
	}
	note(err)
}

// decode decodes a FileDescriptorProto, without its source_code_info, which is often most of it, and without unknown fields.
// It checks the bounds before it takes memory.
func (s *set) decode(data []byte) (*descriptorpb.FileDescriptorProto, error) {
	if len(s.files) >= maxFiles {
		return nil, fmt.Errorf("more than %d files", maxFiles)
	}
	rest := make([]byte, 0, len(data))
	err := eachField(data, func(num protowire.Number, _, whole []byte) error {
		if num != fieldSourceCodeInfo {
			rest = append(rest, whole...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := s.counter.count(rest, fileDescriptor, 0); err != nil {
		return nil, err
	}
	fd := new(descriptorpb.FileDescriptorProto)
	if err := decode.Unmarshal(rest, fd); err != nil {
		return nil, errMalformed
	}
	fd.ProtoReflect().SetUnknown(nil)
	return fd, nil
}

// add adds a file that decode returned. A file with the same path may be there already if it is equal.
func (s *set) add(origin string, fd *descriptorpb.FileDescriptorProto) error {
	if err := checkFile(fd); err != nil {
		return err
	}
	path := fd.GetName()
	raw, err := encode.Marshal(fd)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	known := s.files[path]
	switch {
	case known == nil:
		s.files[path] = &file{proto: fd, raw: raw, origin: origin}
	case bytes.Equal(known.raw, raw):
	case known.origin == origin:
		return fmt.Errorf("%s: there twice, with different content", path)
	default:
		return fmt.Errorf("%s: not the same as in %s", path, known.origin)
	}
	return nil
}

// addCompiled adds a file that was compiled here. Its options may have types, so it is encoded and decoded again.
func (s *set) addCompiled(origin string, compiled *descriptorpb.FileDescriptorProto) error {
	data, err := encode.Marshal(compiled)
	if err != nil {
		return fmt.Errorf("%s: %w", compiled.GetName(), err)
	}
	fd, err := s.decode(data)
	if err != nil {
		return fmt.Errorf("%s: %w", compiled.GetName(), err)
	}
	return s.add(origin, fd)
}

// addWellKnown adds google/protobuf/*.proto that are imported and that the set lacks. All other imports that it lacks are
// mistakes.
func (s *set) addWellKnown(wrong *mistakes) {
	paths := s.paths()
	for len(paths) > 0 {
		path := paths[0]
		paths = paths[1:]
		for _, dep := range s.files[path].proto.GetDependency() {
			if s.files[dep] != nil {
				continue
			}
			if known := wellKnown(dep); known == nil {
				wrong.add(fmt.Errorf("%s: imports %q, which is not there", s.where(path), dep))
			} else if err := s.addCompiled("", protodesc.ToFileDescriptorProto(known)); err != nil {
				wrong.add(err)
			} else {
				paths = append(paths, dep)
			}
		}
	}
}
