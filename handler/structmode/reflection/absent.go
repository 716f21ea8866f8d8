package reflection

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// A server may lack a file that others of its files import: generated code need not be linked for what only options use,
// such as google/api/annotations.proto. Options stay unknown fields here, so nothing of such a file is needed. Whether
// something is, the files without it tell: a file with a type that is in it does not link, and is left out too. All is well
// if the file of the service links in the end.

// unlessAbsent returns the error of a visit, but for that of a file that the endpoint answers not to have, which it notes.
func (g *gathering) unlessAbsent(path string, err error) error {
	if !errors.As(err, new(*AnswerError)) {
		return err
	}
	g.absent[path] = err
	return spend(&g.conversation.budget.files, 1, MaxFiles, "files")
}

// withoutAbsent returns f as a file that does not import what the endpoint lacks. f is not changed.
func (g *gathering) withoutAbsent(f *descriptorpb.FileDescriptorProto) *descriptorpb.FileDescriptorProto {
	lacking := func(path string) bool { return g.absent[path] != nil }
	if !slices.ContainsFunc(f.GetDependency(), lacking) {
		return f
	}
	out := &descriptorpb.FileDescriptorProto{}
	f.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		out.ProtoReflect().Set(fd, v)
		return true
	})
	out.Dependency, out.PublicDependency, out.WeakDependency = nil, nil, nil
	place := map[int32]int32{} // of what stays
	for i, path := range f.GetDependency() {
		if !lacking(path) {
			place[int32(i)] = int32(len(out.Dependency))
			out.Dependency = append(out.Dependency, path)
		}
	}
	moved := func(indices []int32) (all []int32) {
		for _, i := range indices {
			if to, ok := place[i]; ok {
				all = append(all, to)
			}
		}
		return all
	}
	out.PublicDependency, out.WeakDependency = moved(f.GetPublicDependency()), moved(f.GetWeakDependency())
	return out
}

// link takes the files out of the set that are not there, and those that need one of them, and links the others. The last
// one, which is that of the service, must link.
func (g *gathering) link() (*protoregistry.Files, error) {
	files := new(protoregistry.Files)
	linked := g.set.File[:0]
	for i, f := range g.set.GetFile() {
		f = g.withoutAbsent(f)
		fd, err := protodesc.NewFile(f, files)
		if err != nil && len(g.absent) > 0 && i < len(g.set.File)-1 {
			g.absent[f.GetName()] = fmt.Errorf("file %s: %w", shortened(f.GetName()), err)
			continue
		}
		if err == nil {
			err = files.RegisterFile(fd)
		}
		if err != nil {
			return nil, err
		}
		linked = append(linked, f)
	}
	g.set.File = linked
	return files, nil
}

// maxAbsent bounds the files that an error names.
const maxAbsent = 8

// blame adds the files that are not there to the error of files that do not fit together.
func (g *gathering) blame(err error) error {
	for i, path := range slices.Sorted(maps.Keys(g.absent)) {
		if i == maxAbsent {
			return fmt.Errorf("%w; and %d files more", err, len(g.absent)-maxAbsent)
		}
		err = fmt.Errorf("%w; %w", err, g.absent[path])
	}
	return err
}
