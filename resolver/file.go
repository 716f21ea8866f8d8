package resolver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// SourceFile is the name under which FileSource applies its routes.
const SourceFile = "file"

// DefaultFileInterval is the time between two looks at a routes file.
const DefaultFileInterval = 500 * time.Millisecond

const (
	maxFileBytes = 64 << 20

	// settle is how long a file must stay as it is before it is read: whoever writes it in place may be at it still, and
	// the beginning of a list of routes is a valid list.
	settle = 50 * time.Millisecond

	// coarse is how far apart two changes can be and yet leave the same time on the file, on file systems in use.
	coarse = 2 * time.Second
)

// ParseDocument is ParseRoutes for a document that somebody names, such as a file: the error starts with the name, and
// a document without anything in it is an error (routes: [] says that there are none).
func ParseDocument(name string, doc []byte) ([]*Route, error) {
	routes, err := ParseRoutes(doc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if routes == nil {
		return nil, fmt.Errorf("%s: empty, want a route or routes: [...]", name)
	}
	return routes, nil
}

// FileSource keeps the routes of a file in force. Whatever happens to the file later, the routes of its last good
// content stay.
type FileSource struct {
	// Interval is the time between two looks at the file; 0 means DefaultFileInterval. Set it before Run.
	Interval time.Duration

	path     string
	resolver *Resolver
	compiler Compiler
	log      *slog.Logger

	// owned by Run
	schemas fileSchemas
	seen    os.FileInfo // what the file was when last read
	content []byte      // that was last read, good or bad
	trouble string      // why the file could not be read, "" if it could; it was logged

	mu         sync.Mutex // guards what follows
	routes     []*Route   // in force
	loaded     time.Time  // when they were read
	err        error      // why the file as it is now is not in force; nil if it is
	rejections int64      // contents that were refused
}

// OpenFile reads the file, and the schemas of its routes in struct mode, applies its routes to r and returns the source,
// which keeps them up to date while Run runs. The error names the file, the line and the key.
func OpenFile(ctx context.Context, path string, r *Resolver, compile Compiler, log *slog.Logger) (*FileSource, error) {
	f := &FileSource{path: path, resolver: r, compiler: compile, log: log, schemas: fileSchemas{dir: filepath.Dir(path)}}
	if err := f.read(); err != nil {
		return nil, err
	}
	if _, err := f.apply(ctx); err != nil {
		return nil, err
	}
	return f, nil
}

// Run looks for changes of the file, and of the files of its schemas, until ctx ends: a write, a rename, a symbolic link
// that points elsewhere. Good
// content replaces all routes of the source; bad content and a file that cannot be read are logged once and change
// nothing. Call it at most once.
func (f *FileSource) Run(ctx context.Context) {
	interval := f.Interval
	if interval <= 0 {
		interval = DefaultFileInterval
	}
	look := time.NewTicker(interval)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			if f.changed() && f.settled(ctx) {
				f.reload(ctx)
			}
		}
	}
}

// Routes says what became of each route of the file. It may be called at any time.
func (f *FileSource) Routes() []RouteStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]RouteStatus, len(f.routes))
	for i, r := range f.routes {
		all[i] = RouteStatus{Name: r.Name, Source: SourceFile, Route: r, Err: f.err}
	}
	return all
}

// Status may be called at any time. A file has no revision.
func (f *FileSource) Status() SourceStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := SourceStatus{Confirmed: f.loaded, Rejections: f.rejections}
	if f.err != nil {
		st.Stale, st.Reason, st.Rejected = true, f.err.Error(), 1
	}
	return st
}

// changed reports whether the file may have changed since it was read. Where the file's time cannot tell, it says yes.
func (f *FileSource) changed() bool {
	now, err := os.Stat(f.path)
	if err != nil {
		f.unreadable(err)
		return false
	}
	return f.trouble != "" || !sameFile(f.seen, now) || time.Since(now.ModTime()) < coarse || f.schemas.changed()
}

// settled returns when the file has not changed for a moment, and false if it went away or ctx ended.
func (f *FileSource) settled(ctx context.Context) bool {
	before, err := os.Stat(f.path)
	for err == nil {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(settle):
		}
		var now os.FileInfo
		if now, err = os.Stat(f.path); err == nil && sameFile(before, now) {
			return true
		}
		before = now
	}
	f.unreadable(err)
	return false
}

func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

func (f *FileSource) reload(ctx context.Context) {
	before, sameSchemas := f.content, !f.schemas.changed()
	if err := f.read(); err != nil {
		f.unreadable(err)
		return
	}
	if f.trouble != "" {
		f.trouble = ""
		f.log.Info("routes file can be read again", "path", f.path)
	} else if bytes.Equal(before, f.content) && sameSchemas {
		return
	}
	routes, err := f.apply(ctx)
	if err != nil {
		f.log.Error("routes file is bad; the routes of its last good content stay in force", "path", f.path, "error", err)
		return
	}
	f.log.Info("routes file loaded", "path", f.path, "routes", routes)
}

// read sets seen and content.
func (f *FileSource) read() error {
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for its writer
		return fmt.Errorf("%s: want a regular file", f.path)
	}
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return err
	}
	content, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err != nil {
		return err
	}
	if len(content) > maxFileBytes {
		return fmt.Errorf("%s: more than %d bytes", f.path, maxFileBytes)
	}
	f.seen, f.content = info, content
	return nil
}

// apply puts the routes of the content in force and returns how many they are, or says why not.
func (f *FileSource) apply(ctx context.Context) (int, error) {
	routes, err := ParseDocument(f.path, f.content)
	if err == nil {
		if routes, err = f.schemas.compile(ctx, f.compiler, routes); err != nil {
			err = fmt.Errorf("%s: %w", f.path, err)
		}
	}
	if err == nil {
		f.resolver.Apply(SourceFile, routes)
	}
	f.note(routes, err)
	return len(routes), err
}

// unreadable logs why the file cannot be read, once per reason.
func (f *FileSource) unreadable(err error) {
	if f.trouble == err.Error() {
		return
	}
	f.trouble = err.Error()
	f.note(nil, err)
	msg := "routes file cannot be read; the routes of its last good content stay in force"
	if errors.Is(err, os.ErrNotExist) {
		msg = "routes file is gone; the routes of its last good content stay in force"
	}
	f.log.Error(msg, "path", f.path, "error", err)
}

// note keeps what is in force, and why the file as it is now is not.
func (f *FileSource) note(routes []*Route, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
	if err != nil {
		f.rejections++
		return
	}
	f.routes, f.loaded = routes, time.Now()
}
