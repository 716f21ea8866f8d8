package filesource

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/spec"
)

// Name is the name under which Source applies its routes.
const Name = "file"

// DefaultInterval is the time between two looks at a routes file.
const DefaultInterval = 500 * time.Millisecond

const (
	maxFileBytes = 64 << 20

	// settle is how long a file must stay unchanged before it is read. A process may still be writing it in place, and the
	// beginning of a list of routes is a valid list.
	settle = 50 * time.Millisecond

	// coarse is the coarsest resolution of a file's modification time, on file systems in use: two changes within it may
	// leave the same time.
	coarse = 2 * time.Second
)

// Source puts the routes of a file in force, and follows its changes. Whatever happens to the file later, the routes of its
// last good content stay in force.
type Source struct {
	interval atomic.Int64  // see SetInterval
	lookNow  chan struct{} // has room for one; filled when Run is to look at once

	path     string
	resolver *resolver.Resolver
	compiler resolver.Compiler
	log      *slog.Logger

	// owned by Run
	schemas fileSchemas
	seen    os.FileInfo // the file's info when it was last read
	content []byte      // that was last read, good or bad
	trouble string      // why the file could not be read, as it was logged; "" if it could

	mu         sync.Mutex        // guards what follows, which only Run changes
	routes     []*resolver.Route // in force
	loaded     time.Time         // when routes were read
	err        error             // why the content of the file is not in force; nil if it is
	rejections int64             // times that the file was bad or could not be read
}

// Load reads a file, and the schemas of its routes in struct mode, and returns their Source. Apply then puts the routes in
// force, and Run follows changes. The error names the file, the line and the key.
func Load(ctx context.Context, path string, r *resolver.Resolver, compile resolver.Compiler, log *slog.Logger) (*Source, error) {
	f := &Source{path: path, resolver: r, compiler: compile, log: log, lookNow: make(chan struct{}, 1), schemas: fileSchemas{dir: filepath.Dir(path)}}
	if err := f.read(); err != nil {
		return nil, err
	}
	routes, _, err := f.compile(ctx)
	if err != nil {
		return nil, err
	}
	f.routes, f.loaded = routes, time.Now()
	return f, nil
}

// Apply puts the routes that Load has read in force, in place of all routes of another file. It is called before Run.
func (f *Source) Apply() {
	defer f.resolver.AwaitNames(boundAddresses(f.routes))()
	f.resolver.Apply(Name, f.routes)
}

// SetInterval sets the time between two looks at the file; 0 means DefaultInterval. The next look is at once. It may be
// called at any time.
func (f *Source) SetInterval(d time.Duration) {
	f.interval.Store(int64(d))
	select {
	case f.lookNow <- struct{}{}:
	default:
	}
}

func (f *Source) untilNextLook() time.Duration {
	return time.Duration(cmp.Or(f.interval.Load(), int64(DefaultInterval)))
}

// Run follows changes of the file, and of the files of its schemas, until ctx ends: writes, renames, and symbolic links that
// point elsewhere. Good content replaces all routes of the source; bad content and a file that cannot be read are logged once
// and change nothing. Call it at most once.
func (f *Source) Run(ctx context.Context) {
	look := time.NewTimer(f.untilNextLook())
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		case <-f.lookNow:
		}
		if f.changed() && f.settled(ctx) {
			f.reload(ctx)
		}
		look.Reset(f.untilNextLook())
	}
}

// Routes returns the status of each route in force. It may be called at any time.
func (f *Source) Routes() []resolver.RouteStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]resolver.RouteStatus, len(f.routes))
	for i, r := range f.routes {
		all[i] = resolver.RouteStatus{Name: r.Name, Source: Name, Route: r.Route, Err: f.err}
	}
	return all
}

// Status says how the routes in force relate to the file. It has no Revision. It may be called at any time.
func (f *Source) Status() resolver.SourceStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := resolver.SourceStatus{Confirmed: f.loaded, Rejections: f.rejections}
	if f.err != nil {
		st.Stale, st.Reason, st.Rejected = true, f.err.Error(), 1
	}
	return st
}

// changed reports whether the file, or one of its schemas, may have changed since it was read. It reports true if the file
// changed so recently that its time cannot tell.
func (f *Source) changed() bool {
	now, err := os.Stat(f.path)
	if err != nil {
		f.unreadable(err)
		return false
	}
	return f.trouble != "" || !sameFile(f.seen, now) || time.Since(now.ModTime()) < coarse || f.schemas.changed()
}

// settled waits until no file has changed for the time settle. It returns false if the routes file went away or ctx ended.
func (f *Source) settled(ctx context.Context) bool {
	before, err := f.look()
	for err == nil {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(settle):
		}
		var now map[string]os.FileInfo
		if now, err = f.look(); err == nil && sameFiles(before, now) {
			return true
		}
		before = now
	}
	f.unreadable(err)
	return false
}

// look returns the infos of the routes file and of the schemas' files now. The error says why there is none of the routes
// file.
func (f *Source) look() (map[string]os.FileInfo, error) {
	now := look(f.schemas.seen)
	var err error
	now[f.path], err = os.Stat(f.path)
	return now, err
}

func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// reload reads the files again, and puts the routes in force if they are good and something has changed.
func (f *Source) reload(ctx context.Context) {
	before, unchanged := f.content, !f.schemas.changed()
	if err := f.read(); err != nil {
		f.unreadable(err)
		return
	}
	sameContent := bytes.Equal(before, f.content)
	if f.trouble != "" {
		f.trouble = ""
		f.log.Info("routes file can be read again", "path", f.path)
	} else if sameContent && unchanged {
		return
	}
	routes, sameSchemas, err := f.compile(ctx)
	switch last := f.err; {
	case ctx.Err() != nil: // err may only be that of ctx
	case err != nil:
		if !sameContent || last == nil || last.Error() != err.Error() {
			f.refuse(err)
			f.log.Error("routes file is bad; the routes of its last good content stay in force", "path", f.path, "error", err)
		}
	case last != nil || !sameContent || !sameSchemas:
		f.apply(routes)
		f.log.Info("routes file loaded", "path", f.path, "routes", len(routes))
	}
}

// read reads the routes file into seen and content.
func (f *Source) read() error {
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

// compile returns the routes of the content with their programs, and whether their schemas are equal to those in force.
func (f *Source) compile(ctx context.Context) ([]*resolver.Route, bool, error) {
	documents, err := spec.ParseDocument(f.path, f.content)
	if err != nil {
		return nil, false, err
	}
	routes, same, err := f.schemas.compile(ctx, f.compiler, documents)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", f.path, err)
	}
	return routes, same, nil
}

// unreadable logs why the file cannot be read, once per reason.
func (f *Source) unreadable(err error) {
	if f.trouble == err.Error() {
		return
	}
	f.trouble = err.Error()
	f.refuse(err)
	msg := "routes file cannot be read; the routes of its last good content stay in force"
	if errors.Is(err, os.ErrNotExist) {
		msg = "routes file is gone; the routes of its last good content stay in force"
	}
	f.log.Error(msg, "path", f.path, "error", err)
}

// apply puts routes in force.
func (f *Source) apply(routes []*resolver.Route) {
	defer f.resolver.AwaitNames(boundAddresses(routes))()
	f.resolver.Apply(Name, routes)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.routes, f.loaded, f.err = routes, time.Now(), nil
}

// refuse notes why the content of the file is not in force.
func (f *Source) refuse(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
	f.rejections++
}

// boundAddresses returns the addresses of the endpoints that the routes list.
func boundAddresses(routes []*resolver.Route) (all []string) {
	for _, r := range routes {
		all = append(all, spec.ListedAddresses(r.Route)...)
	}
	return all
}
