package reflection

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// gathering collects the files that a service needs, in the order in which they can be linked. It is owned by one goroutine.
type gathering struct {
	conversation *conversation
	standard     protocompile.Resolver // of the files that come with protoc
	received     map[string]received   // files that the endpoint sent, by path, also those that are not needed
	absent       map[string]error      // why a file is absent, by path

	path  []string                        // the files that are being visited: each imports the next one
	walks map[string]int                  // steps of a walk through the public imports of a visited file, by path; see countWalk
	set   *descriptorpb.FileDescriptorSet // the files that were visited, each behind its imports
}

// received is a file as the endpoint sent it.
type received struct {
	raw  []byte
	file *descriptorpb.FileDescriptorProto
}

func newGathering(c *conversation) *gathering {
	none := protocompile.ResolverFunc(func(string) (protocompile.SearchResult, error) {
		return protocompile.SearchResult{}, protoregistry.NotFound
	})
	return &gathering{
		conversation: c, standard: protocompile.WithStandardImports(none),
		received: map[string]received{}, absent: map[string]error{}, walks: map[string]int{}, set: &descriptorpb.FileDescriptorSet{},
	}
}

// standardFile returns a file that comes with protoc, or nil.
func (g *gathering) standardFile(path string) protoreflect.FileDescriptor {
	found, err := g.standard.FindFileByPath(path)
	if err != nil {
		return nil
	}
	return found.Desc
}

// findService asks the endpoint for service, and returns the path of the file that defines it.
func (g *gathering) findService(service string) (string, error) {
	files, err := g.conversation.askSymbol(service)
	var answer *AnswerError
	if errors.As(err, &answer) && answer.Code == codes.NotFound {
		return "", fmt.Errorf("%w: %w", ErrMissing, err)
	}
	if err != nil {
		return "", err
	}
	what := "symbol " + shortened(service)
	paths, err := g.add(what, files)
	if err != nil {
		return "", err
	}
	name := protoreflect.FullName(service)
	for _, path := range paths {
		if definesService(g.received[path].file, name) {
			return path, nil
		}
	}
	return "", protocolErrorf(what, "no file of the answer defines this service: %s", listed(paths))
}

func definesService(f *descriptorpb.FileDescriptorProto, name protoreflect.FullName) bool {
	return f.GetPackage() == string(name.Parent()) &&
		slices.ContainsFunc(f.GetService(), func(s *descriptorpb.ServiceDescriptorProto) bool {
			return s.GetName() == string(name.Name())
		})
}

// add adds the files of an answer to received, except those that come with protoc, and returns their paths. what describes the
// question in errors.
func (g *gathering) add(what string, files [][]byte) ([]string, error) {
	var paths []string
	for i, raw := range files {
		f, err := g.conversation.budget.parseFile(raw)
		if err != nil {
			return nil, protocolErrorf(what, "descriptor %d of the answer: %w", i, err)
		}
		path := f.GetName()
		if path == "" {
			return nil, protocolErrorf(what, "descriptor %d of the answer: no name, want the path of the file", i)
		}
		if g.standardFile(path) != nil {
			continue
		}
		// Servers may send a file again, also serialized in another order, but not with other content.
		if old, ok := g.received[path]; ok && !bytes.Equal(old.raw, raw) && !proto.Equal(old.file, f) {
			return nil, protocolErrorf(what, "file %s: came twice with different content", shortened(path))
		}
		g.received[path] = received{raw: raw, file: f}
		paths = append(paths, path)
	}
	return paths, nil
}

// visit adds the file at path to the set, behind its imports. It asks the endpoint for files that have not been received,
// and leaves out imports that the endpoint lacks. MaxFiles bounds the depth of its recursion. If it returns an *AnswerError,
// the endpoint lacks the file at path itself.
func (g *gathering) visit(path string) error {
	if _, done := g.walks[path]; done {
		return nil
	}
	if i := slices.Index(g.path, path); i >= 0 {
		return protocolErrorf("file "+shortened(path), "imports itself: %s", listed(append(g.path[i:], path)))
	}
	f, err := g.file(path)
	if err != nil {
		return err
	}
	g.path = append(g.path, path)
	for _, dependency := range f.GetDependency() {
		if g.absent[dependency] != nil {
			continue
		}
		if err := g.unlessAbsent(dependency, g.visit(dependency)); err != nil {
			return err
		}
	}
	g.path = g.path[:len(g.path)-1]
	if err := g.countWalk(f); err != nil {
		return &ProtocolError{Asked: "file " + shortened(path), Err: err}
	}
	g.set.File = append(g.set.File, f)
	return nil
}

// file returns the file at path: framegate's own if it comes with protoc, else the one that was received or that the
// endpoint sends now.
func (g *gathering) file(path string) (*descriptorpb.FileDescriptorProto, error) {
	if own := g.standardFile(path); own != nil {
		return protodesc.ToFileDescriptorProto(own), nil
	}
	if r, ok := g.received[path]; ok {
		return r.file, nil
	}
	imported := "imported by " + shortened(g.path[len(g.path)-1]) // not empty: the first file was received already
	if path == "" {
		return nil, protocolErrorf("file "+shortened(path), "%s: want a path", imported)
	}
	files, err := g.conversation.askFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", imported, err)
	}
	what := "file " + shortened(path)
	paths, err := g.add(what, files)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", imported, err)
	}
	r, ok := g.received[path]
	if !ok {
		return nil, fmt.Errorf("%s: %w", imported, protocolErrorf(what, "the answer has other files: %s", listed(paths)))
	}
	return r.file, nil
}

// countWalk counts the steps that linking f takes: protobuf walks through the imports of f, and from each through all public
// imports, along every path. All imports of f have been visited.
func (g *gathering) countWalk(f *descriptorpb.FileDescriptorProto) error {
	deps := f.GetDependency()
	walk := len(deps)
	for _, i := range f.GetPublicDependency() {
		if i >= 0 && int(i) < len(deps) { // protodesc refuses the others
			walk = min(walk+g.walks[deps[i]], MaxImportSteps+1)
		}
	}
	g.walks[f.GetName()] = walk
	for _, d := range deps {
		spent := &g.conversation.budget.importSteps
		if err := spend(spent, g.walks[d], MaxImportSteps, "paths through public imports"); err != nil {
			return err
		}
	}
	return nil
}

// finish checks that the files link and define service, and returns them.
func (g *gathering) finish(service string) (*descriptorpb.FileDescriptorSet, error) {
	what := "service " + shortened(service)
	files, err := g.link()
	if err != nil {
		return nil, protocolErrorf(what, "the files do not fit together: %w", g.blame(err))
	}
	d, err := files.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil, &ProtocolError{Asked: what, Err: err}
	}
	if _, ok := d.(protoreflect.ServiceDescriptor); !ok {
		return nil, protocolErrorf(what, "is not a service")
	}
	for _, f := range g.set.GetFile() {
		if g.standardFile(f.GetName()) != nil {
			continue
		}
		fd, err := files.FindFileByPath(f.GetName())
		if err != nil {
			return nil, &ProtocolError{Asked: what, Err: err}
		}
		if name := impostor(fd); name != "" {
			what = "file " + shortened(fd.Path())
			return nil, protocolErrorf(what, "declares %s, which comes with protoc", shortened(string(name)))
		}
	}
	return g.set, nil
}

// declarations has the messages and enums that a file or a message declares.
type declarations interface {
	Messages() protoreflect.MessageDescriptors
	Enums() protoreflect.EnumDescriptors
}

// impostor returns the name of a type in d that has the name of a type that comes with protoc, or "" if there is none. Such
// a type is refused because code that recognizes types such as google.protobuf.Timestamp by their names relies on their
// fields.
func impostor(d declarations) protoreflect.FullName {
	for i := range d.Enums().Len() {
		if name := d.Enums().Get(i).FullName(); comesWithProtoc(name) {
			return name
		}
	}
	for i := range d.Messages().Len() {
		m := d.Messages().Get(i)
		if comesWithProtoc(m.FullName()) {
			return m.FullName()
		}
		if name := impostor(m); name != "" {
			return name
		}
	}
	return ""
}

// comesWithProtoc reports whether a type of that name is in a file that comes with protoc.
func comesWithProtoc(name protoreflect.FullName) bool {
	if !strings.HasPrefix(string(name), "google.protobuf.") {
		return false
	}
	// protocompile imports the Go packages of all these files, so that GlobalFiles has them.
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	return err == nil && strings.HasPrefix(d.ParentFile().Path(), "google/protobuf/")
}

// listed returns the first few paths as a text, for an error.
func listed(paths []string) string {
	const maxListed = 8
	if len(paths) == 0 {
		return "none"
	}
	b := &strings.Builder{}
	for i, p := range paths {
		if i == maxListed {
			fmt.Fprintf(b, " and %d more", len(paths)-maxListed)
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(shortened(p))
	}
	return b.String()
}
