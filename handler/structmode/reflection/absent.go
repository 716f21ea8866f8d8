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

// A server may lack a file that its other files import, such as google/api/annotations.proto: a file that is only imported
// for options need not be linked into the server. Framegate does not need such a file either, because it keeps options as
// unknown fields. To find out whether an absent file is needed, the other files are linked without it: a file that uses a
// type of it does not link, and is left out, too. The schema is complete if the file of the service links in the end.

// unlessAbsent returns err, the error of the visit of a file. But if the endpoint answered that it does not have the file,
// it records the file as absent and returns nil.
func (g *gathering) unlessAbsent(path string, err error) error {
	if !errors.As(err, new(*AnswerError)) {
		return err
	}
	g.absent[path] = err
	return spend(&g.conversation.budget.files, 1, MaxFiles, "files")
}

// withoutAbsent returns f without its imports of absent files. It does not change f.
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
	place := map[int32]int32{} // new indices of the imports that stay, by their old ones
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

// link links the files of the set, without their imports of absent files. If files are absent, it removes from the set the
// files that do not link, which become absent too. The last file, that of the service, must link.
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

// maxAbsent bounds the absent files that an error names.
const maxAbsent = 8

// blame adds the errors of the absent files to err, the error of files that do not link.
func (g *gathering) blame(err error) error {
	for i, path := range slices.Sorted(maps.Keys(g.absent)) {
		if i == maxAbsent {
			return fmt.Errorf("%w; and %d files more", err, len(g.absent)-maxAbsent)
		}
		err = fmt.Errorf("%w; %w", err, g.absent[path])
	}
	return err
}
