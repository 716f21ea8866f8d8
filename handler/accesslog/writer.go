package accesslog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/framegate/framegate/resolver/plain"
)

const (
	// batchBytes is the size from which a batch of lines is written.
	batchBytes = 32 << 10
	// flushInterval is how long a line waits for others that are written with it. A write for each of a few hundred lines a second
	// takes a fifth of the CPU of the calls.
	flushInterval = 100 * time.Millisecond
	// flushTimeout bounds how long Close waits for the last lines to be written.
	flushTimeout = 5 * time.Second
	// followInterval is the time between two calls of Follow.
	followInterval = time.Second
)

// writer formats entries as lines and writes the lines in batches.
type writer struct {
	dst    io.Writer
	format *json.Encoder // writes to batch
	batch  bytes.Buffer
	lines  int64 // number of lines in batch
	broken bool  // a write failed within a line, so that the next batch begins on a new line
}

func (w *writer) init(dst io.Writer) {
	w.dst = dst
	w.format = json.NewEncoder(&w.batch)
	w.format.SetEscapeHTML(false)
}

// add adds the line of e to the batch.
func (w *writer) add(e *entry) {
	w.lines++
	before := w.batch.Len()
	_ = w.format.Encode(e)                       // to memory: every entry can be encoded
	line := plain.JSON(w.batch.Bytes()[before:]) // usually the same bytes
	w.batch.Truncate(before)
	w.batch.Write(line)
}

// flush writes the batch. It returns how many of its lines were not written whole, and why.
func (w *writer) flush() (lost int64, err error) {
	if w.lines == 0 {
		return 0, nil
	}
	if w.broken {
		if _, err := io.WriteString(w.dst, "\n"); err == nil {
			w.broken = false
		}
	}
	p := w.batch.Bytes()
	n, err := w.dst.Write(p)
	if err != nil {
		n = min(max(n, 0), len(p))
		lost = w.lines - int64(bytes.Count(p[:n], []byte("\n")))
		w.broken = w.broken || n > 0 && p[n-1] != '\n'
	}
	w.batch.Reset()
	w.lines = 0
	return lost, err
}

// run is the goroutine of the writer: it writes calls until Close, then those that wait, and ends.
func (l *Log) run() {
	defer close(l.done)
	follow := func() {}
	if f, ok := l.writer.dst.(interface{ Follow(*slog.Logger) }); ok {
		follow = func() { f.Follow(l.log) }
	}
	tick := time.NewTicker(followInterval)
	defer tick.Stop()
	var soon <-chan time.Time // when the batch is to be written; nil while it is certainly empty
	for {
		select {
		case e := <-l.queue:
			l.add(e)
			if soon == nil {
				soon = time.After(flushInterval)
			}
		case <-soon:
			l.flush()
			soon = nil
		case <-tick.C:
			follow()
		case <-l.stop:
			l.writeWaiting()
			l.ended.Store(true)
			l.writeWaiting() // calls that were queued before ended was set
			l.losses.end(l.log, l.dropped.Load())
			return
		}
	}
}

// writeWaiting writes the calls that wait in the queue, in batches of batchBytes, and what is in the batch already.
func (l *Log) writeWaiting() {
	for {
		select {
		case e := <-l.queue:
			l.add(e)
		default:
			l.flush()
			return
		}
	}
}

// add adds the line of e to the batch, and writes the batch if it is full.
func (l *Log) add(e *entry) {
	l.writer.add(e)
	if l.writer.batch.Len() >= batchBytes {
		l.flush()
	}
}

func (l *Log) flush() {
	lost, err := l.writer.flush()
	l.lose(lost, err)
}

// lose counts lines that were not written because of err, and lets losses report them. lines may be 0 and err nil.
func (l *Log) lose(lines int64, err error) {
	if err != nil {
		l.losses.err = err
	}
	l.losses.report(l.log, l.dropped.Add(lines))
}

// Close writes the calls that wait, and ends the log: later calls are not logged. It waits at most 5 s for a slow writer, then
// returns an error. It does not close the io.Writer. It may be called more than once.
func (l *Log) Close() error {
	l.closed.Store(true)
	l.stopOnce.Do(func() { close(l.stop) })
	timeout := time.NewTimer(flushTimeout)
	defer timeout.Stop()
	select {
	case <-l.done:
		return nil
	case <-timeout.C:
		return fmt.Errorf("access log: the last lines were not taken within %s", flushTimeout)
	}
}
