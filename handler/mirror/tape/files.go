package tape

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/framegate/framegate/kitex_gen/framegate/v1"
)

// version is that of the format.
const version = 1

// Suffix is what the names of files end in.
const Suffix = ".tape"

// Files are begun anew when they have so many bytes: an eighth of all that the mirror may have, within these bounds.
const (
	minFileBytes = 8 << 10
	maxFileBytes = 64 << 20
	filesOfAll   = 8
)

// logEvery is how often it is logged at most that files cannot be written.
const logEvery = time.Minute

// retryAfter is how long the recorder waits after it could not write.
const retryAfter = time.Second

// files are the files of a Recorder, owned by its goroutine.
type files struct {
	cfg     Config
	current *os.File // nil if none is open
	size    int64    // of current
	logged  time.Time
}

// run writes what comes until the recorder is closed and nothing waits.
func (r *Recorder) run() {
	f := &files{cfg: r.cfg}
	defer f.close()
	for {
		batch, closed := r.next()
		if batch == nil {
			return
		}
		err := f.write(batch)
		r.mu.Lock()
		if err != nil {
			r.stats.Down, r.stats.Error = true, err.Error()
			r.stats.Lost += int64(len(batch))
		} else {
			r.stats.Down, r.stats.Error = false, ""
			r.stats.Written += int64(len(batch))
			for _, e := range batch {
				r.stats.WrittenBytes += int64(len(e.bytes))
			}
		}
		r.mu.Unlock()
		if err != nil {
			f.close()
			f.complain(err)
			if !closed {
				r.pause()
			}
		}
	}
}

// next waits for entries and takes all that wait. It returns nil when the recorder is closed and nothing waits.
func (r *Recorder) next() (batch []entry, closed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.waiting) == 0 && !r.closed {
		r.changed.Wait()
	}
	batch, r.waiting, r.bytes = r.waiting, nil, 0
	return batch, r.closed
}

// pause waits before the next attempt to write, or until the recorder is closed.
func (r *Recorder) pause() {
	r.mu.Lock()
	defer r.mu.Unlock()
	until := time.Now().Add(retryAfter)
	timer := time.AfterFunc(retryAfter, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.changed.Broadcast()
	})
	defer timer.Stop()
	for !r.closed && time.Now().Before(until) {
		r.changed.Wait()
	}
}

// fileBytes returns how long a file may be before the next one is begun.
func (f *files) fileBytes() int64 {
	return min(max(f.cfg.MaxBytes/filesOfAll, minFileBytes), maxFileBytes)
}

// write appends a batch to the current file, with one write for all that fits into it. What was written is in the hands of the
// kernel: it outlives the end of this process.
func (f *files) write(batch []entry) error {
	for len(batch) > 0 {
		n, length := 0, int64(0)
		for n < len(batch) && (n == 0 || max(f.size, headerBytes)+length+int64(len(batch[n].bytes)) <= f.fileBytes()) {
			length += int64(len(batch[n].bytes))
			n++
		}
		if f.current != nil && (f.size+length > f.fileBytes() || f.isGone()) {
			f.close()
		}
		if f.current == nil {
			if err := f.open(length); err != nil {
				return err
			}
		}
		text := make([]byte, 0, length)
		for _, e := range batch[:n] {
			text = append(text, e.bytes...)
		}
		k, err := f.current.Write(text)
		if f.size += int64(k); err != nil {
			return err
		}
		batch = batch[n:]
	}
	return nil
}

// isGone reports whether the current file was removed or renamed, so that nobody would find what is written to it.
func (f *files) isGone() bool {
	there, err := os.Stat(f.current.Name())
	if err != nil {
		return true
	}
	mine, err := f.current.Stat()
	return err != nil || !os.SameFile(there, mine)
}

// headerBytes is about how long a header is.
const headerBytes = 256

// open begins a file, for at least length bytes, and removes the oldest ones so that all of them together stay within the bound.
func (f *files) open(length int64) error {
	if err := os.MkdirAll(f.cfg.Dir, 0o750); err != nil {
		return err
	}
	need := max(f.fileBytes(), length+headerBytes)
	if need > f.cfg.MaxBytes {
		return fmt.Errorf("an entry of %d bytes, want at most max_bytes (%d)", length, f.cfg.MaxBytes)
	}
	if err := f.prune(f.cfg.MaxBytes - need); err != nil {
		return err
	}
	now := time.Now()
	name := fmt.Sprintf("%s%s-%d%s", f.prefix(), now.UTC().Format("20060102T150405.000000000Z"), os.Getpid(), Suffix)
	file, err := os.OpenFile(filepath.Join(f.cfg.Dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	_ = lock(file) // where there are locks nobody else has one of it
	header, err := encode(&v1.TapeEntry{Header: &v1.TapeHeader{Version: version, Route: f.cfg.Route, Mirror: f.cfg.Mirror, Time: now.UnixNano()}})
	if err == nil {
		_, err = file.Write(header)
	}
	if err != nil {
		_ = file.Close()
		return err
	}
	f.current, f.size = file, int64(len(header))
	return nil
}

// prefix is what the names of the mirror's files begin with. No other mirror's do: names of routes and mirrors have no underscore.
func (f *files) prefix() string { return f.cfg.Route + "_" + f.cfg.Mirror + "_" }

// prune removes the oldest files of the mirror until the others have at most so many bytes. It leaves those that are being written: by
// another framegate, or by the recorder that this one follows.
func (f *files) prune(most int64) error {
	all, err := os.ReadDir(f.cfg.Dir)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(e os.DirEntry) bool {
		return !strings.HasPrefix(e.Name(), f.prefix()) || !strings.HasSuffix(e.Name(), Suffix) || !e.Type().IsRegular()
	})
	sum := int64(0)
	for _, e := range slices.Backward(all) { // sorted by name, and so by time
		info, err := e.Info()
		if err != nil {
			continue // it has gone
		}
		if sum += info.Size(); sum <= most {
			continue
		}
		name := filepath.Join(f.cfg.Dir, e.Name())
		if isWritten(name) {
			continue
		}
		if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

// isWritten reports whether a recorder has the file locked.
func isWritten(name string) bool {
	file, err := os.Open(name)
	if err != nil {
		return false
	}
	defer file.Close()
	return lock(file) != nil
}

// close ends the current file.
func (f *files) close() {
	if f.current != nil {
		_ = f.current.Sync() // what fails here cannot be written again
		_ = f.current.Close()
		f.current = nil
	}
}

// complain logs that files cannot be written, once a minute at most.
func (f *files) complain(err error) {
	if now := time.Now(); f.cfg.Log != nil && now.Sub(f.logged) >= logEvery {
		f.logged = now
		f.cfg.Log.Warn("calls are not recorded", "route", f.cfg.Route, "mirror", f.cfg.Mirror, "directory", f.cfg.Dir, "error", err)
	}
}
