package schema

import (
	"strings"

	"github.com/bufbuild/protocompile"
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
