package schema

import (
	"fmt"
	"strings"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// standard finds the google/protobuf files that come with every compiler, and no other file that the Go runtime knows.
var standard = protocompile.WithStandardImports(protocompile.ResolverFunc(
	func(string) (protocompile.SearchResult, error) {
		return protocompile.SearchResult{}, protoregistry.NotFound
	},
))

// wellKnown returns the file google/protobuf/*.proto with the path, nil if there is none.
func wellKnown(path string) protoreflect.FileDescriptor {
	if !strings.HasPrefix(path, "google/protobuf/") {
		return nil
	}
	found, err := standard.FindFileByPath(path)
	if err != nil {
		return nil
	}
	return found.Desc
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
