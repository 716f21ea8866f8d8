package accesslog

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/framegate/framegate/handler"
)

// maxText bounds each text from a client in a line, in bytes.
const maxText = 256

// entry is the copy of a call's Record that is kept until its line is written.
type entry struct {
	end time.Time
	handler.Record
	authority, peer, userAgent, requestID string
}

func newEntry(r *handler.Record) *entry {
	e := &entry{
		end:       r.Start.Add(r.Duration),
		Record:    r.Values(),
		authority: bounded(r.Authority()),
		peer:      bounded(r.Peer()),
		userAgent: bounded(r.UserAgent()),
		requestID: bounded(r.RequestID()),
	}
	e.Method = bounded(e.Method)
	return e
}

// bounded cuts s to at most maxText bytes. The result does not keep the rest of s in memory.
func bounded(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText - len("...")
	for n > maxText/2 && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.Clone(s[:n]) + "..."
}

// log writes the line of the call.
func (e *entry) log(h slog.Handler) error {
	line := slog.NewRecord(e.end, slog.LevelInfo, "", 0)
	line.AddAttrs(
		slog.String("listener", e.Listener),
		slog.String("method", e.Method),
		slog.String("route", e.Route),
		slog.String("backend", e.Backend),
		slog.String("endpoint", e.Endpoint),
		slog.String("code", codeName(e)),
		slog.String("reason", string(e.Reason)),
		slog.Float64("duration_ms", milliseconds(e.Duration)),
		slog.Float64("first_byte_ms", milliseconds(e.FirstByte)),
		slog.Int64("request_messages", e.RequestMessages),
		slog.Int64("request_bytes", e.RequestBytes),
		slog.Int64("response_messages", e.ResponseMessages),
		slog.Int64("response_bytes", e.ResponseBytes),
		slog.String("authority", e.authority),
		slog.String("peer", e.peer),
		slog.String("user_agent", e.userAgent),
		slog.String("request_id", e.requestID),
	)
	if n := e.Attempts.Further(); n > 0 {
		line.AddAttrs(slog.Int("attempts", n+1))
	}
	return h.Handle(context.Background(), line)
}

// codeName returns gRPC's name of the call's code, or the number of a code that gRPC does not define.
func codeName(e *entry) string {
	if name := handler.CodeName(e.Code); name != handler.OtherCode {
		return name
	}
	return strconv.FormatUint(uint64(e.Code), 10)
}

// milliseconds returns d in milliseconds, rounded down to microseconds.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// withoutLevel removes slog's level and message from a line, which has neither.
func withoutLevel(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return a
}
