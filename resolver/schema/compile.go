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

// compile compiles the parsed sources and adds the results to the set. A source of edition 2024 is compiled as one of 2023
// and raised again; see edition.go. Mistakes go to l.reports and l.wrong.
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

// unreported returns an error of the compiler, or nil if there are reports of mistakes, which say more.
func (l *loader) unreported(err error) error {
	if l.reports.empty() {
		return err
	}
	return nil
}

// resolve returns a file for the compiler: a source, a file of the set, or one of google/protobuf. The compiler's goroutines
// call it; they only read l, which nobody changes meanwhile.
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
	case fd.Imports().Len() > 0: // not linked, since the schema may bring its own version of an import
		return protocompile.SearchResult{Proto: protodesc.ToFileDescriptorProto(fd)}, nil
	}
	return protocompile.SearchResult{Desc: fd}, nil
}

// report is a mistake in a source.
type report struct {
	pos ast.SourcePos // pos.Filename is the path that the source is imported by
	err error
}

// in returns the report as an error with a position in disk, which is the path of the source on disk.
func (r report) in(disk string) error {
	if r.pos.Line == 0 {
		return fmt.Errorf("%s: %w", disk, r.err)
	}
	return fmt.Errorf("%s:%d:%d: %w", disk, r.pos.Line, r.pos.Col, r.err)
}

// reports collects the mistakes in sources. It is a reporter.Reporter with which the compiler goes on after a mistake.
type reports struct {
	mu  sync.Mutex // guards all: the compiler's goroutines may report after Compile has returned
	all []report
}

// handler returns a handler that adds all mistakes of one parse to the reports.
func (r *reports) handler() *reporter.Handler { return reporter.NewHandler(r) }

var errTooManyMistakes = errors.New("too many mistakes")

// Error implements reporter.Reporter. It returns an error, which ends the compilation, when there is no room for a further
// report.
func (r *reports) Error(err reporter.ErrorWithPos) error {
	if !r.add(err.GetPosition(), err.Unwrap()) {
		return errTooManyMistakes
	}
	return nil
}

// Warning implements reporter.Reporter. It ignores warnings, such as those of unused imports.
func (r *reports) Warning(reporter.ErrorWithPos) {}

// add adds a report, and reports whether there was room for it.
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

// sorted returns the reports by file and position. Their own order is random, because files are compiled concurrently.
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
