// Package tape records calls in files, and reads them. idl/tape.proto is the format.
//
// Enter at Open, and at NewReader; then recorder.go (what is recorded, in memory), files.go (the files of a Recorder) and reader.go.
package tape

import (
	"cmp"
	"context"
	"encoding/binary"
	"log/slog"
	"slices"
	"sync"
	"time"

	v1 "github.com/framegate/framegate/kitex_gen/framegate/v1"
	"github.com/framegate/framegate/resolver/spec"
)

// Config says what a Recorder records, and where.
type Config struct {
	Dir           string
	Route, Mirror string
	MaxBytes      int64    // of all files of the mirror together; the oldest are removed
	Redact        []string // metadata whose values are not written
	Queue         spec.Queue
	Log           *slog.Logger
}

// ConfigOf returns the Config of a mirror with Record.
func ConfigOf(route string, m *spec.Mirror, log *slog.Logger) Config {
	return Config{
		Dir: m.Record.Path, Route: route, Mirror: m.Name, MaxBytes: int64(cmp.Or(m.Record.MaxBytes, spec.DefaultRecordBytes)),
		Redact: spec.RedactOr(m.Record.Redact), Queue: m.Queue, Log: log,
	}
}

// Recorder writes calls to files. It is safe for concurrent use.
type Recorder struct {
	cfg  Config
	done chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex // guards the fields below
	changed sync.Cond  // signals changes of waiting and closed; its lock is mu
	waiting []entry    // in the order of time
	bytes   int64      // of waiting
	closed  bool
	stats   Stats
}

// entry is an encoded TapeEntry with its length before it.
type entry struct {
	bytes []byte
	came  time.Time
}

// Stats is the state of a Recorder.
type Stats struct {
	Down         bool // the last attempt to write failed
	Error        string
	Written      int64 // entries
	WrittenBytes int64
	Lost         int64 // entries that were not written, because the files could not be
	Waiting      int
	WaitingBytes int64
	Lag          time.Duration // age of the oldest entry that waits
}

// Open returns a Recorder, which the caller closes. It does no I/O: a directory that cannot be written to shows in Stats and in the
// log, and is tried again.
func Open(cfg Config) *Recorder {
	r := &Recorder{cfg: cfg, done: make(chan struct{})}
	r.changed.L = &r.mu
	go func() {
		defer close(r.done)
		r.run()
	}()
	return r
}

// Stats returns the state of the recorder.
func (r *Recorder) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Waiting, s.WaitingBytes = len(r.waiting), r.bytes
	if len(r.waiting) > 0 {
		s.Lag = time.Since(r.waiting[0].came)
	}
	return s
}

// Close writes what waits, until ctx ends, and ends the recorder. It may be called more than once.
func (r *Recorder) Close(ctx context.Context) {
	r.mu.Lock()
	r.closed = true
	r.changed.Broadcast()
	r.mu.Unlock()
	select {
	case <-r.done:
	case <-ctx.Done(): // a write that hangs cannot be ended; its goroutine ends with it
	}
}

// put adds an entry to the queue, or reports false if there is no room for it. force is for entries without which the others
// of their call make no sense; they are small.
func (r *Recorder) put(e *v1.TapeEntry, force bool) bool {
	framed, err := encode(e)
	if err != nil || int64(len(framed)) > r.cfg.MaxBytes/2 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	full := len(r.waiting) >= r.cfg.Queue.MaxMessages() || r.bytes+int64(len(framed)) > r.cfg.Queue.MaxBytes()
	if r.closed || full && !(force && len(r.waiting) < 2*r.cfg.Queue.MaxMessages()) {
		return false
	}
	r.waiting = append(r.waiting, entry{framed, time.Now()})
	r.bytes += int64(len(framed))
	r.changed.Signal()
	return true
}

// encode returns an entry with its length before it.
func encode(e *v1.TapeEntry) ([]byte, error) {
	body, err := e.Marshal(nil)
	if err != nil {
		return nil, err
	}
	return append(binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen64+len(body)), uint64(len(body))), body...), nil
}

// fields returns metadata for a tape, without the values of redacted names.
func (r *Recorder) fields(md map[string][]string) (all []*v1.TapeField) {
	for name, values := range md {
		f := &v1.TapeField{Name: name}
		for _, v := range values {
			if slices.Contains(r.cfg.Redact, name) {
				v = spec.Redacted
			}
			f.Values = append(f.Values, []byte(v))
		}
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b *v1.TapeField) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Call describes a call that is recorded.
type Call struct {
	ID, Method, Peer, Subtype, Encoding string
	Began                               time.Time
	Timeout                             time.Duration // that the client gave the call; 0 for none
	Metadata                            map[string][]string
}

// Take is the recording of one call. Its methods do not block.
type Take struct {
	recorder *Recorder
	call     string
	mu       sync.Mutex // guards the fields below
	lost     uint64
}

// Begin begins the recording of a call. It reports false if there is no room.
func (r *Recorder) Begin(c Call) (*Take, bool) {
	ok := r.put(&v1.TapeEntry{Call: &v1.TapeCall{
		Call: c.ID, Time: c.Began.UnixNano(), Method: c.Method, Peer: c.Peer, Subtype: c.Subtype, Encoding: c.Encoding, Timeout: int64(c.Timeout),
		Metadata: r.fields(c.Metadata),
	}}, false)
	if !ok {
		return nil, false
	}
	return &Take{recorder: r, call: c.ID}, true
}

// Message records a message, or reports false if there is no room for it. It does not keep payload.
func (t *Take) Message(response, compressed bool, payload []byte) bool {
	ok := t.recorder.put(&v1.TapeEntry{Message: &v1.TapeMessage{
		Call: t.call, Time: time.Now().UnixNano(), Response: response, Compressed: compressed, Payload: payload,
	}}, false)
	if !ok {
		t.Lose()
	}
	return ok
}

// Lose counts a message of the call that is not written.
func (t *Take) Lose() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lost++
}

// HalfClose records the end of the request.
func (t *Take) HalfClose() {
	t.recorder.put(&v1.TapeEntry{HalfClose: &v1.TapeHalfClose{Call: t.call, Time: time.Now().UnixNano()}}, true)
}

// Answer is how a call ended.
type Answer struct {
	Code              uint32
	Message, Encoding string
	Headers, Trailers map[string][]string
}

// End records the end of the call.
func (t *Take) End(a Answer) {
	t.mu.Lock()
	lost := t.lost
	t.mu.Unlock()
	t.recorder.put(&v1.TapeEntry{End: &v1.TapeEnd{
		Call: t.call, Time: time.Now().UnixNano(), Code: a.Code, Message: a.Message, Encoding: a.Encoding,
		Headers: t.recorder.fields(a.Headers), Trailers: t.recorder.fields(a.Trailers), Lost: lost,
	}}, true)
}
