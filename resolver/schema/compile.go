package schema

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/ast"
	"github.com/bufbuild/protocompile/parser"
	"github.com/bufbuild/protocompile/protoutil"
	"github.com/bufbuild/protocompile/reporter"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// compile compiles the sources and adds them to the set.
func (l *loader) compile(ctx context.Context) {
	if len(l.order) == 0 {
		return
	}
	paths := make([]string, len(l.order))
	for i, src := range l.order {
		paths[i] = src.path
		if src.newer == nil {
			continue
		}
		var err error
		if src.parsed, err = parser.ResultFromAST(src.ast, true, l.reports.handler()); err != nil {
			l.wrong.add(l.unreported(err))
			return
		}
		src.newer.drop(src.parsed)
	}
	compiler := protocompile.Compiler{Resolver: protocompile.ResolverFunc(l.resolve), Reporter: &l.reports}
	compiled, err := compiler.Compile(ctx, paths...)
	if err != nil {
		l.wrong.add(l.unreported(err))
		return
	}
	for i, src := range l.order {
		fd := protoutil.ProtoFromFileDescriptor(compiled[i])
		if src.newer != nil {
			fd = src.newer.raise(src.ast, fd)
		}
		l.wrong.add(l.set.addCompiled(src.disk, fd))
	}
}

// unreported returns the error of the compiler if there is no report that says more.
func (l *loader) unreported(err error) error {
	if l.reports.empty() {
		return err
	}
	return nil
}

// resolve gives the compiler what gather found. Goroutines of the compiler call it; nothing of l changes meanwhile.
func (l *loader) resolve(path string) (protocompile.SearchResult, error) {
	if src := l.sources[path]; src != nil && src.ast != nil {
		return protocompile.SearchResult{AST: src.ast, ParseResult: src.parsed}, nil
	}
	if f := l.set.files[path]; f != nil {
		return protocompile.SearchResult{Proto: f.proto}, nil
	}
	fd := wellKnown(path)
	switch {
	case fd == nil:
		return protocompile.SearchResult{}, protoregistry.NotFound
	case fd.Imports().Len() > 0: // which may be files of the schema's own
		return protocompile.SearchResult{Proto: protodesc.ToFileDescriptorProto(fd)}, nil
	}
	return protocompile.SearchResult{Desc: fd}, nil
}

// report is a mistake in a source.
type report struct {
	pos ast.SourcePos // its file is the path that it is imported by
	err error
}

// in returns the error for people, who know the file as disk.
func (r report) in(disk string) error {
	if r.pos.Line == 0 {
		return fmt.Errorf("%s: %w", disk, r.err)
	}
	return fmt.Errorf("%s:%d:%d: %w", disk, r.pos.Line, r.pos.Col, r.err)
}

// reports collects the mistakes in sources. It is a reporter.Reporter that lets the compiler go on.
type reports struct {
	mu  sync.Mutex // guards all: goroutines of the compiler may report after it has returned
	all []report
}

// handler returns a handler that notes all mistakes of one parse.
func (r *reports) handler() *reporter.Handler { return reporter.NewHandler(r) }

var errTooManyMistakes = errors.New("too many mistakes")

// Error implements reporter.Reporter.
func (r *reports) Error(err reporter.ErrorWithPos) error {
	if !r.add(err.GetPosition(), err.Unwrap()) {
		return errTooManyMistakes
	}
	return nil
}

// Warning implements reporter.Reporter. Unused imports and the like are nobody's concern here.
func (r *reports) Warning(reporter.ErrorWithPos) {}

// add notes a mistake, or says that there is no room for it.
func (r *reports) add(pos ast.SourcePos, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) >= maxMistakes {
		return false
	}
	r.all = append(r.all, report{pos, err})
	return true
}

func (r *reports) empty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all) == 0
}

// sorted returns the mistakes by file and position: the compiler works on files at the same time.
func (r *reports) sorted() []report {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := slices.Clone(r.all)
	slices.SortStableFunc(all, func(a, b report) int {
		return cmp.Or(cmp.Compare(a.pos.Filename, b.pos.Filename), cmp.Compare(a.pos.Line, b.pos.Line),
			cmp.Compare(a.pos.Col, b.pos.Col), cmp.Compare(a.err.Error(), b.err.Error()))
	})
	return all
}
