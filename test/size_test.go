package test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	maxFileLines   = 400
	maxMethodFiles = 4 // that a type has methods in
)

// What outgrows its file or its type is split by what it is about.
func TestSize_OfFilesAndTypes(t *testing.T) {
	t.Parallel()
	methodFiles := map[string]map[string]bool{} // by folder and type
	seen := 0
	require.NoError(t, filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "kitex_gen" || path != ".." && strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		seen++
		src, err := os.ReadFile(path)
		require.NoError(t, err)
		if n := bytes.Count(src, []byte("\n")); n > maxFileLines {
			t.Errorf("%s has %d lines, want at most %d", path, n, maxFileLines)
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, src, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv != nil {
				key := filepath.Dir(path) + " " + receiver(f.Recv.List[0].Type)
				if methodFiles[key] == nil {
					methodFiles[key] = map[string]bool{}
				}
				methodFiles[key][filepath.Base(path)] = true
			}
		}
		return nil
	}))
	require.Greater(t, seen, 100)
	require.NotEmpty(t, methodFiles["../handler call"])
	for key, files := range methodFiles {
		if len(files) > maxMethodFiles {
			t.Errorf("%s has methods in %d files, want at most %d", key, len(files), maxMethodFiles)
		}
	}
}

// receiver returns the name of a method's type.
func receiver(e ast.Expr) string {
	for {
		switch at := e.(type) {
		case *ast.StarExpr:
			e = at.X
		case *ast.IndexExpr: // of a generic type
			e = at.X
		case *ast.IndexListExpr:
			e = at.X
		case *ast.Ident:
			return at.Name
		default:
			return ""
		}
	}
}
