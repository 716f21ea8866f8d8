package accesslog

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/framegate/framegate/resolver/plain"
)

const (
	// batchBytes is about how much is written at once when calls wait.
	batchBytes = 32 << 10
	// flushTimeout bounds how long Close waits for a writer that does not take the last lines.
	flushTimeout = 5 * time.Second
	// followInterval is the time between two looks at whether the file of the log was renamed or removed.
	followInterval = time.Second
)

// writer puts entries into lines and writes batches of them.
type writer struct {
	dst    io.Writer
	format slog.Handler // writes to batch
	batch  bytes.Buffer
	lines  int64 // in batch
	broken bool  // the last line in dst is not whole
}

func (w *writer) init(dst io.Writer) {
	w.dst = dst
	w.format = slog.NewJSONHandler(&w.batch, &slog.HandlerOptions{ReplaceAttr: withoutLevel})
}

// add puts e into the batch.
func (w *writer) add(e *entry) error {
	w.lines++
	before := w.batch.Len()
	if err := e.log(w.format); err != nil {
		return err
	}
	line := plain.JSON(w.batch.Bytes()[before:]) // as a rule the same bytes
	w.batch.Truncate(before)
	w.batch.Write(line)
	return nil
}

// flush writes the batch. It returns how many lines of it were lost, and why.
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

// run writes calls until Close, then those that wait.
func (l *Log) run() {
	defer close(l.done)
	follow := func() {}
	if f, ok := l.writer.dst.(interface{ Follow(*slog.Logger) }); ok {
		follow = func() { f.Follow(l.log) }
	}
	look := time.NewTicker(followInterval)
	defer look.Stop()
	for {
		select {
		case e := <-l.queue:
			l.write(e)
		case <-look.C:
			follow()
		case <-l.stop:
			l.writeWaiting()
			l.ended.Store(true)
			l.writeWaiting() // what came before that
			l.losses.end(l.log, l.dropped.Load())
			return
		}
	}
}

// write writes e and those that wait.
func (l *Log) write(e *entry) {
	l.add(e)
	l.writeWaiting()
}

func (l *Log) writeWaiting() {
	for {
		select {
		case e := <-l.queue:
			l.add(e)
			if l.writer.batch.Len() < batchBytes {
				continue
			}
		default:
			l.flush()
			return
		}
		l.flush()
	}
}

func (l *Log) flush() {
	lost, err := l.writer.flush()
	l.lose(lost, err)
}

// lose counts lines that were not written for err, which may be nil for none, and says so now and then.
func (l *Log) lose(lines int64, err error) {
	if err != nil {
		l.losses.err = err
	}
	l.losses.report(l.log, l.dropped.Add(lines))
}

func (l *Log) add(e *entry) {
	if err := l.writer.add(e); err != nil { // a buffer takes all: this would be a value that is no JSON
		l.lose(1, err)
		l.writer.lines--
	}
}

// Close writes the calls that wait and ends. Later calls are not logged. It waits for at most 5 s for a slow writer, then
// returns an error. It does not close the writer. It may be called more than once.
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
