package resolver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/framegate/framegate/conf/strict"
	"github.com/framegate/framegate/resolver/schema"
)

// fileSchemas are the schemas that the routes of a file name, and the files on disk that they were read from.
type fileSchemas struct {
	dir  string // that relative paths start from
	read map[string]*schema.Schema
	seen map[string]os.FileInfo // nil for a file that could not be looked at
}

// compile returns the routes with their programs.
func (f *fileSchemas) compile(ctx context.Context, c Compiler, routes []*Route) ([]*Route, error) {
	before := make(map[string]os.FileInfo, len(f.seen))
	for p := range f.seen {
		before[p] = look(p)
	}
	f.read, f.seen = map[string]*schema.Schema{}, map[string]os.FileInfo{}
	all := make([]*Route, len(routes))
	var errs []error
	for i, r := range routes {
		s, err := f.schemaOf(ctx, r)
		if err == nil {
			all[i], err = c.compiled(r, s)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("routes[%d] (%s): %w", i, r.Name, err))
		}
	}
	if len(errs) > 0 { // what was imported until now may be what is wrong
		for p, info := range before {
			f.note(p, info)
		}
	}
	return all, strict.Join(errs)
}

// LoadSchema returns the schema of a route's files, of which relative ones are in dir, or nil if its schema is elsewhere.
func LoadSchema(ctx context.Context, dir string, r *Route) (*schema.Schema, error) {
	if r.Schema == nil || len(r.Schema.Files) == 0 {
		return nil, nil
	}
	f := fileSchemas{dir: dir, read: map[string]*schema.Schema{}, seen: map[string]os.FileInfo{}}
	return f.schemaOf(ctx, r)
}

// schemaOf returns the schema that a route names, nil for none.
func (f *fileSchemas) schemaOf(ctx context.Context, r *Route) (*schema.Schema, error) {
	switch {
	case r.Schema == nil || r.Schema.Reflection:
		return nil, nil
	case r.Schema.Name != "":
		return nil, fmt.Errorf("schema.name: %q, want files or reflection: a routes file has no schemas of etcd", r.Schema.Name)
	}
	files, imports := f.resolve(r.Schema.Files), f.resolve(r.Schema.Imports)
	key := strings.Join(files, "\x00") + "\x00\x00" + strings.Join(imports, "\x00")
	if s := f.read[key]; s != nil {
		return s, nil
	}
	for _, p := range files {
		f.note(p, look(p))
	}
	s, err := schema.Load(ctx, files, imports)
	if err != nil {
		return nil, fmt.Errorf("schema.files: %w", err)
	}
	for _, source := range s.Sources() {
		f.note(source.Path, source.Info)
	}
	f.read[key] = s
	return s, nil
}

func (f *fileSchemas) resolve(paths []string) []string {
	all := make([]string, len(paths))
	for i, p := range paths {
		if all[i] = p; !filepath.IsAbs(p) {
			all[i] = filepath.Join(f.dir, p)
		}
	}
	return all
}

// look returns what a file is now, nil if it cannot be looked at.
func look(path string) os.FileInfo {
	info, err := os.Stat(path)
	if err != nil {
		return nil
	}
	return info
}

// note keeps what a file was when it was first looked at or read: of a file that changes while others are read, the
// first version counts, so that changed tells.
func (f *fileSchemas) note(path string, info os.FileInfo) {
	if _, ok := f.seen[path]; !ok {
		f.seen[path] = info
	}
}

// changed reports whether a file may not be what it was when it was read.
func (f *fileSchemas) changed() bool {
	for p, was := range f.seen {
		now := look(p)
		if (now == nil) != (was == nil) || now != nil && !sameFile(was, now) {
			return true
		}
	}
	return false
}
