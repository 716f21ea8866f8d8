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

// gathering is the set of files that a service needs, while it is asked for. It belongs to one goroutine.
type gathering struct {
	conversation *conversation
	standard     protocompile.Resolver
	received     map[string]received // by path: what the endpoint sent, needed or not
	absent       map[string]error    // by path: why there is no such file

	path  []string       // the files being visited, each imported by the one before it
	walks map[string]int // of the files that have been visited: steps of a walk through their public imports
	set   *descriptorpb.FileDescriptorSet
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

// findService asks for service and returns the path of the file that defines it.
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

// add keeps the files of the answer to what, but for those that come with protoc. It returns the paths of those it
// kept.
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
		// Servers repeat files. To serialize them in another order is allowed; to change them is not.
		if old, ok := g.received[path]; ok && !bytes.Equal(old.raw, raw) && !proto.Equal(old.file, f) {
			return nil, protocolErrorf(what, "file %s: came twice with different content", shortened(path))
		}
		g.received[path] = received{raw: raw, file: f}
		paths = append(paths, path)
	}
	return paths, nil
}

// visit puts the file at path into the set, after its imports. It asks for those that have not come yet, and does without
// those that the endpoint lacks. The depth of its recursion is bounded by MaxFiles. An *AnswerError is about the file itself.
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

// file returns the file at path: framegate's own, one that came, or the answer of the endpoint.
func (g *gathering) file(path string) (*descriptorpb.FileDescriptorProto, error) {
	if own := g.standardFile(path); own != nil {
		return protodesc.ToFileDescriptorProto(own), nil
	}
	if r, ok := g.received[path]; ok {
		return r.file, nil
	}
	imported := "imported by " + shortened(g.path[len(g.path)-1]) // the first file has come
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

// countWalk counts the steps through the public imports of f, all of whose imports have been visited, that whoever
// links f and the files that import it takes.
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

// finish checks that the files fit together and define service, and returns them.
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

// declarations is what a file and a message have in common.
type declarations interface {
	Messages() protoreflect.MessageDescriptors
	Enums() protoreflect.EnumDescriptors
}

// impostor returns the name of a type in d that has the name of one that comes with protoc, or "". Code that knows
// google.protobuf.Timestamp and its like by their names relies on their fields.
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

func comesWithProtoc(name protoreflect.FullName) bool {
	if !strings.HasPrefix(string(name), "google.protobuf.") {
		return false
	}
	// protocompile links them all.
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	return err == nil && strings.HasPrefix(d.ParentFile().Path(), "google/protobuf/")
}

// listed returns some paths for an error.
func listed(paths []string) string {
	const most = 8
	if len(paths) == 0 {
		return "none"
	}
	b := &strings.Builder{}
	for i, p := range paths {
		if i == most {
			fmt.Fprintf(b, " and %d more", len(paths)-most)
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(shortened(p))
	}
	return b.String()
}
