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

// Load reads the files that people name and makes one schema of them. A name that ends in .proto is source; all others
// are FileDescriptorSets in wire format, whatever they are called.
//
// The path of a source within one of importDirs, the first that has it, is what others import it by; importDirs are
// searched for imports. Without importDirs, the directories of the sources are; a source outside of importDirs adds its
// own. Imports are taken from the sources and sets that are named, then from disk, then from google/protobuf/*.proto
// that we bring.
//
// The error joins all mistakes, those in sources as file:line:column: first those of files, imports and syntax, then,
// without those, those of types. No file is waited for, and all together may have
// 16 MiB, a source 1 MiB. See MaxBytes for the bound on what comes out. After an error there is nothing to tell which
// files would mend it: whoever watches them tries again.
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

// maxSourceBytes bounds a .proto file: to parse one takes a thousand times as much memory at worst.
const maxSourceBytes = 1 << 20

// loader reads what makes one schema. It is owned by the goroutine of Load.
type loader struct {
	reader  reader
	dirs    []string // searched for imports
	set     *set
	sources map[string]*source // by the path that they are imported by
	queue   []*source          // to read and parse
	order   []*source          // parsed
	wrong   mistakes           // outside of sources
	reports reports            // in sources
}

// source is a .proto file on disk.
type source struct {
	path string // that it is imported by
	disk string
	info fs.FileInfo
	ast  *ast.FileNode

	newer  *newer        // nil but for edition 2024
	parsed parser.Result // of what is compiled of edition 2024
}

// failed returns what is wrong so far.
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

// diskPath returns where the file with an import path was read from.
func (l *loader) diskPath(path string) string {
	if src := l.sources[path]; src != nil {
		return src.disk
	}
	if f := l.set.files[path]; f != nil {
		return l.set.where(path)
	}
	return path
}

// name notes the files that people named and reads the sets among them.
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

// nameSource queues a source that people named. Import directories that they named count in their order; of directories
// that we chose, the one furthest above the file does.
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

// gather reads and parses the sources in the queue and all that they and the sets import from disk.
func (l *loader) gather(ctx context.Context) {
	order, err := l.set.order()
	if err == nil {
		err = l.set.checkPublicImports(order) // the compiler follows them as the linker does
	}
	l.wrong.add(err)
	for _, path := range order {
		for _, dep := range l.set.files[path].proto.GetDependency() {
			l.find(dep) // what is missing, the linker says
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

// parse reads a source and sets its tree, if there is one.
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
	// An error says no more than the reports.
	content, src.newer = lower(content)
	src.ast, _ = parser.Parse(src.path, bytes.NewReader(content), l.reports.handler())
}

// find reports whether an import can be had, and queues it if it is on disk.
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

// missing returns the error for an import that cannot be had.
func (l *loader) missing(path string) error {
	if !fs.ValidPath(path) {
		return fmt.Errorf("import %q: want a path within an import directory and no . or .. in it", path)
	}
	return fmt.Errorf("import %q: not found in %s", path, strings.Join(l.dirs, ", "))
}
