package app

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/resolver/plain"
)

// serverLog is a slog.Handler whose level and format may change while it is in use.
type serverLog struct {
	*logSettings
	text, json slog.Handler
}

// logSettings are shared by a serverLog and the handlers that WithAttrs and WithGroup make from it.
type logSettings struct {
	level  slog.LevelVar
	inJSON atomic.Bool
}

// newServerLog returns a handler that writes to w. c must be valid.
func newServerLog(c conf.Log, w io.Writer) *serverLog {
	l := &serverLog{logSettings: &logSettings{}}
	l.set(c)
	opts := &slog.HandlerOptions{Level: &l.level}
	l.text, l.json = slog.NewTextHandler(plain.Lines(w), opts), slog.NewJSONHandler(plain.JSONLines(w), opts)
	return l
}

// set changes level and format; c must be valid. It may be called at any time.
func (l *serverLog) set(c conf.Log) {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // cannot fail: c is valid
	l.level.Set(level)
	l.inJSON.Store(c.Format == "json")
}

// Enabled implements slog.Handler.
func (l *serverLog) Enabled(_ context.Context, level slog.Level) bool {
	return level >= l.level.Level()
}

// Handle implements slog.Handler.
func (l *serverLog) Handle(ctx context.Context, r slog.Record) error {
	if l.inJSON.Load() {
		return l.json.Handle(ctx, r)
	}
	return l.text.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (l *serverLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &serverLog{logSettings: l.logSettings, text: l.text.WithAttrs(attrs), json: l.json.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (l *serverLog) WithGroup(name string) slog.Handler {
	return &serverLog{logSettings: l.logSettings, text: l.text.WithGroup(name), json: l.json.WithGroup(name)}
}
