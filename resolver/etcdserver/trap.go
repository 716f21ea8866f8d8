package etcdserver

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// trap keeps a failure of etcd from ending the process, because a proxy without etcd still has its routes. When etcd cannot
// go on (a full disk, a log that it cannot read), it calls its logger's Fatal or Panic. The trap's logger ends only the
// goroutine that called it, and passes the reason on.
type trap struct {
	logger *zap.Logger
	failed chan error  // holds the first failure
	off    atomic.Bool // set by disarm
	caught atomic.Bool // a goroutine of etcd was ended
}

func newTrap(log *slog.Logger) *trap {
	t := &trap{failed: make(chan error, 1)}
	t.logger = zap.New(slogCore{log: log, off: &t.off}, zap.WithFatalHook(t), zap.WithPanicHook(t))
	return t
}

// fail records a failure, unless there was one before.
func (t *trap) fail(err error) {
	if t.off.Load() {
		return
	}
	select {
	case t.failed <- err:
	default:
	}
}

// disarm drops later failures, and errors in the log. It is called when etcd is closed, which reports each listener that ends
// as an error.
func (t *trap) disarm() { t.off.Store(true) }

// catchPanic is deferred by goroutines that run etcd's code. It records a panic as a failure.
func (t *trap) catchPanic() {
	if r := recover(); r != nil {
		t.fail(fmt.Errorf("panic: %v", r))
	}
}

// OnWrite ends the goroutine that logged. zap calls it for entries of level Fatal and Panic.
func (t *trap) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	t.caught.Store(true)
	t.fail(entryError(entry.Message, fields))
	runtime.Goexit()
}

// entryError returns a log entry as an error.
func entryError(message string, fields []zapcore.Field) error {
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			return fmt.Errorf("%s: %w", message, err)
		}
	}
	return errors.New(message)
}

// tooEarly is an error that most first starts log and that can be ignored: etcd writes the version of its storage before the
// first commit is on disk, and tries again 4 s later.
const tooEarly = "failed to update storage version"

// slogCore is a zapcore.Core that passes etcd's entries of level error and above to a slog.Logger.
type slogCore struct {
	log    *slog.Logger
	off    *atomic.Bool
	fields []zapcore.Field
}

func (c slogCore) Enabled(level zapcore.Level) bool {
	return level >= zapcore.ErrorLevel && !c.off.Load()
}

func (c slogCore) With(fields []zapcore.Field) zapcore.Core {
	c.fields = append(c.fields[:len(c.fields):len(c.fields)], fields...)
	return c
}

func (c slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) && e.Message != tooEarly {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range c.fields {
		f.AddTo(enc)
	}
	for _, f := range fields {
		f.AddTo(enc)
	}
	args := make([]any, 0, 2*len(enc.Fields))
	for k, v := range enc.Fields {
		args = append(args, k, v)
	}
	c.log.Error("etcd: "+e.Message, args...)
	return nil
}

func (slogCore) Sync() error { return nil }
