package filesource

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/resolver/strict"
)

// retryShare bounds the share of the time that goes into reading schemas that could not be read: the time between two tries
// is this many times the time that one takes.
const retryShare = 10

// fileSchemas has the schemas that the routes of a file name, and the files on disk that they were read from.
type fileSchemas struct {
	dir  string                  // that relative paths start from
	read map[string]loadedSchema // the schemas in force, by their files and imports
	seen map[string]os.FileInfo  // by path: the file's info before it was read; nil if there was none
	next time.Time               // when to read schemas again that could not be read; zero if there are none
}

// loadedSchema is the result of reading a schema.
type loadedSchema struct {
	schema *schema.Schema
	err    error
}

// compile reads the schemas of the routes again, and returns the routes with their programs, and whether all their schemas
// are equal to those in force.
func (f *fileSchemas) compile(ctx context.Context, c resolver.Compiler, routes []*spec.Route) (all []*resolver.Route, same bool, err error) {
	began, before := time.Now(), look(f.seen)
	now := fileSchemas{dir: f.dir, read: map[string]loadedSchema{}, seen: map[string]os.FileInfo{}}
	var errs []error
	for i, r := range routes {
		s, err := now.schemaOf(ctx, r)
		if err == nil {
			var bound *resolver.Route
			bound, err = c.Bind(r, s)
			all = append(all, bound)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("routes[%d] (%s): %w", i, routes[i].Name, err))
		}
	}
	f.next = time.Time{}
	for _, l := range now.read {
		if l.err != nil { // a change of a file that is not in seen may mend it, such as a new file for a missing import
			f.next = time.Now().Add(retryShare * time.Since(began))
		}
	}
	if len(errs) > 0 { // look at the files read before too, since a change of them may have caused the errors
		maps.Copy(before, now.seen)
		f.seen = before
		return nil, false, strict.Join(errs)
	}
	same = maps.EqualFunc(f.read, now.read, func(a, b loadedSchema) bool { return bytes.Equal(a.schema.Encode(), b.schema.Encode()) })
	f.read, f.seen = now.read, now.seen
	return all, same, nil
}

// LoadSchema returns the schema that a route's schema.files make, or nil if it has none. Relative paths start from dir.
func LoadSchema(ctx context.Context, dir string, r *spec.Route) (*schema.Schema, error) {
	if r.Schema == nil || len(r.Schema.Files) == 0 {
		return nil, nil
	}
	f := fileSchemas{dir: dir, read: map[string]loadedSchema{}, seen: map[string]os.FileInfo{}}
	return f.schemaOf(ctx, r)
}

// schemaOf returns the schema that a route's schema.files make. It returns nil if the route has no schema, or asks for it by
// reflection.
func (f *fileSchemas) schemaOf(ctx context.Context, r *spec.Route) (*schema.Schema, error) {
	switch {
	case r.Schema == nil || r.Schema.Reflection:
		return nil, nil
	case r.Schema.Name != "":
		return nil, fmt.Errorf("schema.name: %q, want files or reflection: a routes file has no schemas of etcd", r.Schema.Name)
	}
	files, imports := f.resolve(r.Schema.Files), f.resolve(r.Schema.Imports)
	key := strings.Join(files, "\x00") + "\x00\x00" + strings.Join(imports, "\x00")
	l, ok := f.read[key]
	if !ok {
		l = f.load(ctx, files, imports)
		f.read[key] = l
	}
	return l.schema, l.err
}

// load reads a schema. It notes in f.seen the infos that its files had before they were read.
func (f *fileSchemas) load(ctx context.Context, files, imports []string) loadedSchema {
	for _, p := range files {
		f.seen[p] = nil
	}
	maps.Copy(f.seen, look(f.seen))
	s, err := schema.Load(ctx, files, imports)
	if err != nil {
		return loadedSchema{err: fmt.Errorf("schema.files: %w", err)}
	}
	for _, source := range s.Sources() {
		f.seen[source.Path] = source.Info
	}
	return loadedSchema{schema: s}
}

// resolve returns clean paths, with relative ones joined to f.dir.
func (f *fileSchemas) resolve(paths []string) []string {
	all := make([]string, len(paths))
	for i, p := range paths {
		if all[i] = filepath.Clean(p); !filepath.IsAbs(p) {
			all[i] = filepath.Join(f.dir, p)
		}
	}
	return all
}

// look returns the infos of files now, nil for a file without one.
func look(files map[string]os.FileInfo) map[string]os.FileInfo {
	now := make(map[string]os.FileInfo, len(files))
	for p := range files {
		info, err := os.Stat(p)
		if err != nil {
			info = nil
		}
		now[p] = info
	}
	return now
}

// changed reports whether a file of a schema may have changed since it was read. It reports true for files that changed so
// recently that their times cannot tell, and when schemas that could not be read are to be tried again.
func (f *fileSchemas) changed() bool {
	now := look(f.seen)
	for _, info := range now {
		if info != nil && time.Since(info.ModTime()) < coarse {
			return true
		}
	}
	return !sameFiles(f.seen, now) || !f.next.IsZero() && time.Now().After(f.next)
}

func sameFiles(a, b map[string]os.FileInfo) bool {
	return maps.EqualFunc(a, b, func(a, b os.FileInfo) bool {
		return (a == nil) == (b == nil) && (a == nil || sameFile(a, b))
	})
}
