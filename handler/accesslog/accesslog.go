// Package accesslog writes one line of JSON for each call, when it has ended, away from the call's path.
//
// Enter at New; then entry.go (the line of a call), writer.go (the goroutine that writes lines), output.go (the destination,
// such as a file that may be rotated) and losses.go (reports calls that were not logged).
package accesslog

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/local"
)

// DefaultBuffer is the default of Config.Buffer.
const DefaultBuffer = 1024

// Config says which calls are logged.
type Config struct {
	Sample float64 // the fraction of calls that are logged, chosen at random: 0 none, 1 all
	Buffer int     // calls that may wait to be written; 0 means DefaultBuffer

	// Errors also logs calls that Sample did not choose and that framegate itself ended with an error, except those that the
	// client gave up. It logs at most ExtraErrors of them a second, so that a client that makes only mistakes does not fill
	// the disk.
	Errors bool

	Log *slog.Logger // gets a warning for calls that were to be logged and were not, at most once a minute and at the end; nil for none
}

// Choice is the part of a Config that Log.Choose can change.
type Choice struct {
	Sample float64
	Errors bool
}

// ExtraErrors bounds the calls that Config.Errors logs: so many a second, and so many at once.
const ExtraErrors = 100

// Validate reports what is wrong with cfg.
func (cfg Config) Validate() error {
	if !(cfg.Sample >= 0 && cfg.Sample <= 1) {
		return fmt.Errorf("sample: %v, want 0 to 1", cfg.Sample)
	}
	if cfg.Buffer < 0 || cfg.Buffer > 1<<20 {
		return fmt.Errorf("buffer: %d, want 0 to %d", cfg.Buffer, 1<<20)
	}
	return nil
}

// Log is an access log. It is a handler.Observer.
type Log struct {
	log     *slog.Logger
	choice  atomic.Pointer[Choice]
	queue   chan *entry
	extra   *rate.Limiter // of the calls that Config.Errors adds
	dropped atomic.Int64
	closed  atomic.Bool
	ended   atomic.Bool // the writer's goroutine no longer reads queue: whoever sends to it empties it

	stop     chan struct{} // closed by Close
	stopOnce sync.Once
	done     chan struct{} // closed when the writer's goroutine has ended
	writer   writer        // owned by the writer's goroutine
	losses   losses        // owned by the writer's goroutine
}

var _ handler.Observer = (*Log)(nil)

// New returns a Log that writes to w until Close. cfg must be valid. One goroutine calls w.Write, with whole lines; if w has
// a method Follow, as Output does, that goroutine calls it every second. A slow w holds up no call: calls for which the
// buffer has no room are not logged, but counted.
func New(w io.Writer, cfg Config) *Log {
	if cfg.Buffer == 0 {
		cfg.Buffer = DefaultBuffer
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := &Log{
		log: cfg.Log, queue: make(chan *entry, cfg.Buffer), extra: rate.NewLimiter(ExtraErrors, ExtraErrors),
		stop: make(chan struct{}), done: make(chan struct{}), losses: newLosses(),
	}
	l.Choose(Choice{cfg.Sample, cfg.Errors})
	l.writer.init(w)
	go l.run()
	return l
}

// Choose sets which of the calls that end from now on are logged. c must be valid. It may be called at any time.
func (l *Log) Choose(c Choice) { l.choice.Store(&c) }

// CallStarted implements handler.Observer.
func (l *Log) CallStarted(*handler.Record) handler.EndObserver { return l }

// CallEnded implements handler.EndObserver: it logs the call if it is one to be logged.
func (l *Log) CallEnded(r *handler.Record) {
	if !l.wants(r) {
		return
	}
	if l.closed.Load() {
		l.dropped.Add(1)
		return
	}
	select {
	case l.queue <- newEntry(r):
		if l.ended.Load() { // Close has returned since closed was read
			l.dropWaiting()
		}
	default:
		l.dropped.Add(1)
	}
}

// dropWaiting empties the queue and counts its calls as dropped.
func (l *Log) dropWaiting() {
	for {
		select {
		case <-l.queue:
			l.dropped.Add(1)
		default:
			return
		}
	}
}

// wants reports whether a call is to be logged.
func (l *Log) wants(r *handler.Record) bool {
	c := l.choice.Load()
	if c.Sample > 0 && (c.Sample >= 1 || rand.Float64() < c.Sample) {
		return true
	}
	return c.Errors && r.Reason != "" && r.Reason != local.ReasonCanceled && l.extra.Allow()
}

// Dropped returns how many calls that were to be logged were not, because the writer was too slow or failed.
func (l *Log) Dropped() int64 { return l.dropped.Load() }
