package accesslog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
)

// Paths that are no files.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// Target is an opened place for lines: a file, which is appended to, or standard output or error.
type Target struct {
	path string
	w    *os.File
}

// Open opens a target: Stdout, Stderr or the path of a file, which is made if it is not there. Whoever gets it gives it to
// an Output or closes it.
func Open(path string) (*Target, error) {
	switch path {
	case Stdout:
		return &Target{path, os.Stdout}, nil
	case Stderr:
		return &Target{path, os.Stderr}, nil
	}
	if err := checkFile(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, err
	}
	return &Target{path, f}, nil
}

// checkFile refuses what is there and is no place for a log: to open a named pipe, say, would wait for its reader.
func checkFile(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it will be made
	}
	if err != nil {
		return err
	}
	if m := info.Mode(); !m.IsRegular() && m&fs.ModeCharDevice == 0 {
		return fmt.Errorf("%q, which is %s, want a regular file, a character device, stdout, stderr or none", path, m)
	}
	return nil
}

func (t *Target) isFile() bool { return t.w != os.Stdout && t.w != os.Stderr }

// Close closes a file.
func (t *Target) Close() error {
	if !t.isFile() {
		return nil
	}
	return t.w.Close()
}

// Output writes to a target that may be exchanged while it is in use. Its Write is for one goroutine, as is Follow; the
// other methods may be called at any time, and wait for no write.
type Output struct {
	target atomic.Pointer[Target] // nil for none

	mu     sync.Mutex // guards closed, and the order of changes
	closed bool

	// owned by who calls Follow
	missing bool   // the file was not where it was at the last look
	trouble string // why the file could not be opened again, "" if it could; it was logged
}

// NewOutput returns an Output that writes to t, which may be nil for nowhere, and takes it over.
func NewOutput(t *Target) *Output {
	o := &Output{}
	o.target.Store(t)
	return o
}

var _ io.Writer = (*Output)(nil)

// Write writes to the target of the moment. Without one, p is dropped.
func (o *Output) Write(p []byte) (int, error) {
	for {
		t := o.target.Load()
		if t == nil {
			return len(p), nil
		}
		n, err := t.w.Write(p)
		if errors.Is(err, os.ErrClosed) && o.target.Load() != t { // exchanged in between: nothing of p was written
			continue
		}
		return n, err
	}
}

// Use makes the output write to t, which may be nil for nowhere, and closes what it wrote to before.
func (o *Output) Use(t *Target) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		if t != nil {
			_ = t.Close()
		}
		return
	}
	if before := o.target.Swap(t); before != nil {
		_ = before.Close() // a write that is under way ends first
	}
}

// Reopen opens the path again, so that lines go to what is there now. If that fails, they go where they went.
func (o *Output) Reopen() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.reopenLocked()
}

func (o *Output) reopenLocked() error {
	before := o.target.Load()
	if o.closed || before == nil || !before.isFile() {
		return nil
	}
	t, err := Open(before.path)
	if err != nil {
		return err
	}
	o.target.Store(t)
	_ = before.Close()
	return nil
}

// Follow opens the path again if what is there is not what lines go to: the file was renamed or removed. A file that is
// missing is made at the second look only, since whoever renamed it may be about to make one.
func (o *Output) Follow(log *slog.Logger) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.target.Load()
	if o.closed || t == nil || !t.isFile() {
		return
	}
	there, err := os.Stat(t.path)
	if err == nil {
		var open os.FileInfo
		if open, err = t.w.Stat(); err == nil && os.SameFile(there, open) {
			o.missing, o.trouble = false, ""
			return
		}
	} else if !o.missing && errors.Is(err, fs.ErrNotExist) {
		o.missing = true
		return
	}
	if err = o.reopenLocked(); err == nil {
		o.missing, o.trouble = false, ""
		log.Info("access log opened again: its file was renamed or removed", "path", t.path)
	} else if o.trouble != err.Error() {
		o.trouble = err.Error()
		log.Warn("access log cannot be opened again: lines go to the file that was renamed or removed", "path", t.path, "error", err)
	}
}

// Close closes the target for good. Nobody writes any more.
func (o *Output) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.target.Swap(nil)
	o.closed = true
	if t == nil {
		return nil
	}
	return t.Close()
}
