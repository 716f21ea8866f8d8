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

// The paths that stand for standard output and standard error.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// Target is an open destination for lines: a file, to which lines are appended, or standard output or error.
type Target struct {
	path string
	w    *os.File
}

// Open opens a target: Stdout, Stderr, or a file by its path, which is created if it does not exist. The caller passes the
// target to an Output or closes it.
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

// checkFile returns an error if the path exists and is neither a regular file nor a character device. Opening a named pipe,
// for example, would wait for its reader.
func checkFile(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // Open creates it
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

// Close closes the file. It does nothing for standard output and error.
func (t *Target) Close() error {
	if !t.isFile() {
		return nil
	}
	return t.w.Close()
}

// Output is an io.Writer to a target that may be exchanged while it is in use. One goroutine calls Write and Follow; the other
// methods may be called by any goroutine and do not wait for a write that is under way.
type Output struct {
	target atomic.Pointer[Target] // nil for none; changed with mu held

	mu     sync.Mutex // guards closed
	closed bool

	// Owned by the goroutine that calls Follow:
	missing bool   // at the last call there was no file at the path
	trouble string // why the file could not be opened again, which was logged; "" if it could
}

// NewOutput returns an Output that writes to t, which it takes over. t may be nil: then what is written is dropped.
func NewOutput(t *Target) *Output {
	o := &Output{}
	o.target.Store(t)
	return o
}

var _ io.Writer = (*Output)(nil)

// Write writes p to the current target. If there is none, p is dropped.
func (o *Output) Write(p []byte) (int, error) {
	for {
		t := o.target.Load()
		if t == nil {
			return len(p), nil
		}
		n, err := t.w.Write(p)
		if errors.Is(err, os.ErrClosed) && o.target.Load() != t { // the target was exchanged before the write: nothing of p was written
			continue
		}
		return n, err
	}
}

// Use makes the output write to t, which it takes over, and closes the target before it. t may be nil: then what is written is
// dropped.
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
		_ = before.Close() // waits for no write: the file is closed when a write that is under way has ended
	}
}

// Reopen opens the target's file again by its path, for a log that was rotated. If that fails, lines go to the old file.
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

// Follow opens the target's file again if the path leads to another file or to none, because the file was renamed or
// removed. If there is no file at the path, Follow creates one only at the second call, because whoever renamed the file may
// be about to create one. It logs to log what it did and why it failed.
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

// Close closes the target for good: a later Use closes its target at once. Write must not be called any more.
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
