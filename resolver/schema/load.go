package schema

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile/ast"
	"github.com/bufbuild/protocompile/parser"
)

// Load reads files and makes one schema of them. A file whose name ends in .proto is a source; any other is a
// FileDescriptorSet in wire format.
//
// Other files import a source by its path relative to the first of importDirs that has it. importDirs are also searched for
// imports. Without importDirs, the directories of the sources take their place; a source outside of importDirs adds its own
// directory. An import is looked for among the files that are named, then on disk, then among the google/protobuf/*.proto
// that come with framegate.
//
// The error joins all mistakes, those in sources as file:line:column. Mistakes of types are found only if there are none of
// files, imports and syntax. All files together may have 16 MiB and one source 1 MiB; see MaxBytes for the bound on the
// schema. Only regular files are read, so that no read blocks. The error does not tell which files to wait for: a caller
// that follows changes of files calls Load again.
func Load(ctx context.Context, files, importDirs []string) (*Schema, error) {
	if len(files) == 0 {
		return nil, errors.New("no files, want .proto files or FileDescriptorSets")
	}
	l := &loader{
		reader:  reader{left: maxInputBytes},
		set:     newSet(),
		sources: map[string]*source{},
	}
	l.name(files, importDirs)
	l.gather(ctx)
	if err := l.failed(ctx); err != nil {
		return nil, err
	}
	l.compile(ctx)
	if err := l.failed(ctx); err != nil {
		return nil, err
	}
	s, err := link(l.set)
	if err != nil {
		return nil, err
	}
	s.sources = l.reader.sources
	slices.SortFunc(s.sources, func(a, b Source) int { return strings.Compare(a.Path, b.Path) })
	return s, nil
}

// maxSourceBytes bounds a .proto file, because parsing one takes up to a thousand times its size in memory.
const maxSourceBytes = 1 << 20

// loader reads the files of one schema. It is owned by the goroutine of Load.
type loader struct {
	reader  reader
	dirs    []string // searched for imports
	set     *set
	sources map[string]*source // by the path that they are imported by
	queue   []*source          // to be read and parsed
	order   []*source          // parsed
	wrong   mistakes           // those without a position in a source
	reports reports            // mistakes in sources
}

// source is a .proto file on disk.
type source struct {
	path string // that it is imported by
	disk string
	info fs.FileInfo
	ast  *ast.FileNode

	// of edition 2024 only
	newer  *newer        // nil for other editions
	parsed parser.Result // without the features that the compiler does not know
}

// failed returns the mistakes so far as one error, or the error of ctx; nil if there are none.
func (l *loader) failed(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	all := mistakes{errs: slices.Clone(l.wrong.errs)}
	for _, r := range l.reports.sorted() {
		all.add(r.in(l.diskPath(r.pos.Filename)))
	}
	return all.err()
}

// diskPath returns the path on disk of the file with an import path.
func (l *loader) diskPath(path string) string {
	if src := l.sources[path]; src != nil {
		return src.disk
	}
	if f := l.set.files[path]; f != nil {
		return l.set.where(path)
	}
	return path
}

// name queues the sources among the named files, and reads the FileDescriptorSets among them.
func (l *loader) name(files, importDirs []string) {
	for _, dir := range importDirs {
		if info, err := os.Stat(filepath.Clean(dir)); err != nil {
			l.wrong.add(fmt.Errorf("import directory: %w", err))
		} else if !info.IsDir() {
			l.wrong.add(fmt.Errorf("import directory %s: want a directory", dir))
		}
	}
	l.dirs = slices.Clone(importDirs)
	if len(importDirs) == 0 {
		for _, file := range files {
			if dir := filepath.Dir(file); isSource(file) && !slices.Contains(l.dirs, dir) {
				l.dirs = append(l.dirs, dir)
			}
		}
	}
	seen := map[string]bool{}
	for _, file := range files {
		file = filepath.Clean(file)
		switch {
		case seen[file]:
		case isSource(file):
			l.nameSource(file, len(importDirs) > 0)
		default:
			if doc, _, err := l.reader.read(file, maxInputBytes); err != nil {
				l.wrong.add(err)
			} else {
				l.set.addDocument(file, doc, &l.wrong)
			}
		}
		seen[file] = true
	}
}

func isSource(file string) bool { return filepath.Ext(file) == ".proto" }

// nameSource queues a source that was named. If ordered, its path is relative to the first of l.dirs that has it; else to the
// one furthest above it.
func (l *loader) nameSource(file string, ordered bool) {
	path := ""
	for _, dir := range l.dirs {
		rel, within := relative(dir, file)
		if within && len(rel) > len(path) {
			path = rel
			if ordered {
				break
			}
		}
	}
	if path == "" {
		l.dirs = append(l.dirs, filepath.Dir(file))
		path = filepath.Base(file)
	}
	if other := l.sources[path]; other != nil {
		l.wrong.add(fmt.Errorf("%s: imported as %q, as is %s: want an import directory above both", file, path, other.disk))
		return
	}
	l.enqueue(path, file)
}

// relative returns the path of file within dir, with slashes.
func relative(dir, file string) (string, bool) {
	absDir, err := filepath.Abs(dir)
	if err != nil {
		return "", false
	}
	absFile, err := filepath.Abs(file)
	if err != nil {
		return "", false
	}
	rel, err := filepath.Rel(absDir, absFile)
	return filepath.ToSlash(rel), err == nil && filepath.IsLocal(rel)
}

func (l *loader) enqueue(path, disk string) {
	src := &source{path: path, disk: disk}
	l.sources[path] = src
	l.queue = append(l.queue, src)
}

// gather reads and parses the sources in the queue, and all files on disk that they and the sets import.
func (l *loader) gather(ctx context.Context) {
	order, err := l.set.order()
	if err == nil {
		err = l.set.checkPublicImports(order) // before compile, because the compiler follows them too
	}
	l.wrong.add(err)
	for _, path := range order {
		for _, dep := range l.set.files[path].proto.GetDependency() {
			l.find(dep) // link reports a missing one
		}
	}
	for len(l.queue) > 0 && ctx.Err() == nil {
		src := l.queue[0]
		l.queue = l.queue[1:]
		if l.parse(src); src.ast == nil {
			continue
		}
		l.order = append(l.order, src)
		for _, decl := range src.ast.Decls {
			imp, ok := decl.(*ast.ImportNode)
			if !ok {
				continue
			}
			if dep := imp.Name.AsString(); !l.find(dep) {
				l.reports.add(src.ast.NodeInfo(imp.Name).Start(), l.missing(dep))
			}
		}
	}
}

// parse reads a source and sets its ast, unless there is no tree because of mistakes.
func (l *loader) parse(src *source) {
	if len(l.order) >= maxFiles {
		l.wrong.add(fmt.Errorf("%s: with the files before it, more than %d files", src.disk, maxFiles))
		l.queue = nil
		return
	}
	content, info, err := l.reader.read(src.disk, maxSourceBytes)
	if err != nil {
		l.wrong.add(err)
		return
	}
	src.info = info
	for _, other := range l.order {
		if os.SameFile(other.info, info) {
			l.wrong.add(fmt.Errorf("%s: imported as %q and as %q, want one: name the import directories",
				src.disk, other.path, src.path))
			return
		}
	}
	// The error is ignored: it says no more than the reports.
	content, src.newer = lower(content)
	src.ast, _ = parser.Parse(src.path, bytes.NewReader(content), l.reports.handler())
}

// find reports whether there is a file for an import, and queues it if it is on disk.
func (l *loader) find(path string) bool {
	if l.sources[path] != nil || l.set.files[path] != nil {
		return true
	}
	if fs.ValidPath(path) && len(path) <= maxNameBytes {
		for _, dir := range l.dirs {
			disk := filepath.Join(dir, filepath.FromSlash(path))
			if _, err := os.Stat(disk); err == nil || errors.Is(err, fs.ErrPermission) {
				l.enqueue(path, disk)
				return true
			}
		}
	}
	return wellKnown(path) != nil
}

// missing returns the error for an import that find did not find.
func (l *loader) missing(path string) error {
	if !fs.ValidPath(path) {
		return fmt.Errorf("import %q: want a path within an import directory and no . or .. in it", path)
	}
	return fmt.Errorf("import %q: not found in %s", path, strings.Join(l.dirs, ", "))
}
