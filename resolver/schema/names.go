package schema

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// checkDistinct adds a mistake for each name that two files define, and for each name that one file defines and that is also
// a package of another. The linker finds names that one file defines twice.
func (s *set) checkDistinct(order []string, wrong *mistakes) {
	owner := map[string]string{} // the file that defines a full name, without names within messages
	for _, path := range order {
		fd := s.files[path].proto
		for _, name := range topNames(fd) {
			name = join(fd.GetPackage(), name)
			if other, taken := owner[name]; !taken {
				owner[name] = path
			} else if other != path {
				wrong.add(fmt.Errorf("%s: defines %s, as does %s", s.where(path), name, s.where(other)))
			}
		}
	}
	for _, path := range order {
		for pkg := s.files[path].proto.GetPackage(); pkg != ""; {
			if other, taken := owner[pkg]; taken {
				wrong.add(fmt.Errorf("%s: defines %s, which is a package of %s", s.where(other), pkg, s.where(path)))
			}
			pkg = pkg[:max(0, strings.LastIndexByte(pkg, '.'))]
		}
	}
}

// where returns the path of a file, with the file on disk that it came from if that has another path.
func (s *set) where(path string) string {
	if f := s.files[path]; f.origin != "" && f.origin != path {
		return fmt.Sprintf("%s (%s)", path, f.origin)
	}
	return path
}

// topNames returns the names that a file defines in its package.
func topNames(fd *descriptorpb.FileDescriptorProto) []string {
	var names []string
	for _, d := range fd.GetMessageType() {
		names = append(names, d.GetName())
	}
	for _, d := range fd.GetEnumType() {
		names = append(names, d.GetName())
		for _, v := range d.GetValue() {
			names = append(names, v.GetName())
		}
	}
	for _, d := range fd.GetExtension() {
		names = append(names, d.GetName())
	}
	for _, d := range fd.GetService() {
		names = append(names, d.GetName())
	}
	return names
}

// extensions has the extension fields of linked files. Two fields with one number in a message are a mistake, since it would
// be random which of them is decoded.
type extensions map[extensionKey]protoreflect.FieldDescriptor

type extensionKey struct {
	message protoreflect.FullName
	number  protoreflect.FieldNumber
}

// scope is a file or a message.
type scope interface {
	Extensions() protoreflect.ExtensionDescriptors
	Messages() protoreflect.MessageDescriptors
}

// add adds the extensions that are declared in a scope, and in the messages within it.
func (e extensions) add(in scope, wrong *mistakes) {
	for i := range in.Extensions().Len() {
		x := in.Extensions().Get(i)
		key := extensionKey{message: x.ContainingMessage().FullName(), number: x.Number()}
		if other := e[key]; other != nil {
			wrong.add(fmt.Errorf("%s: %s extends %s with number %d, as does %s in %s",
				x.ParentFile().Path(), x.FullName(), key.message, key.number, other.FullName(), other.ParentFile().Path()))
			continue
		}
		e[key] = x
	}
	for i := range in.Messages().Len() {
		e.add(in.Messages().Get(i), wrong)
	}
}
