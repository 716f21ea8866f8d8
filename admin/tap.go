package admin

import (
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/tap"
	"github.com/framegate/framegate/resolver/plain"
	"github.com/framegate/framegate/resolver/spec"
)

const (
	// tapLineTimeout bounds the write of one line: a client that does not read for so long loses its tap.
	tapLineTimeout = 10 * time.Second
	// tapHeartbeat is the time between two heartbeat lines, without which a client that has gone would not be noticed.
	tapHeartbeat = 5 * time.Second
)

// missedLine is the heartbeat line: how many messages since the last one came too fast to be shown, mostly 0.
type missedLine struct {
	Missed int64 `json:"missed"`
}

// tapAPI opens taps and streams what they show.
type tapAPI struct {
	open func(pattern spec.Pattern, perSecond int, where string) (*handler.TapSession, error)
	work *work
	log  *slog.Logger
}

// stream streams messages of live calls, a line of JSON each, until the client goes or count messages have been shown.
func (api *tapAPI) stream(w http.ResponseWriter, r *http.Request) error {
	if api.open == nil {
		return notProvided("tap")
	}
	pattern, where, rate, count, err := tapQuery(r)
	if err != nil {
		return err
	}
	compiled, err := take(r.Context(), api.work.answers, 1) // to compile the condition where
	if err != nil {
		return err
	}
	opened, err := api.open(pattern, rate, where)
	compiled()
	switch {
	case errors.Is(err, handler.ErrTapsOff):
		return notProvided("tap")
	case errors.Is(err, tap.ErrTooMany):
		return &problem{status: http.StatusServiceUnavailable, Reason: reasonTooMany, Message: err.Error(), cause: err}
	case err != nil:
		return badParameter("%v", err)
	}
	defer opened.Close()
	api.log.Info("admin: tap opened", "method", pattern.String(), "where", where, "from", r.RemoteAddr)
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := &lines{w: w, rc: http.NewResponseController(w)}
	if err := out.write(missedLine{}); err != nil {
		return nil // the client has gone, as below
	}
	beat := time.NewTicker(tapHeartbeat)
	defer beat.Stop()
	for shown := 0; shown < count; {
		select {
		case <-r.Context().Done():
			return nil
		case <-beat.C:
			err = out.write(missedLine{opened.Missed()})
		case m := <-opened.Messages():
			line, ok := opened.Show(r.Context(), m)
			if !ok {
				continue
			}
			shown++
			err = out.write(line)
		}
		if err != nil {
			return nil
		}
	}
	if n := opened.Missed(); n > 0 {
		_ = out.write(missedLine{n})
	}
	return nil
}

// tapQuery reads the query of a tap; an absent count is math.MaxInt.
func tapQuery(r *http.Request) (pattern spec.Pattern, where string, rate, count int, err error) {
	values := map[string]string{}
	for _, name := range []string{"method", "where", "rate", "count"} {
		if values[name], err = queryValue(r, name); err != nil {
			return pattern, "", 0, 0, err
		}
	}
	if pattern, err = spec.ParsePattern(values["method"]); err != nil {
		return pattern, "", 0, 0, badParameter("method: %v", err)
	}
	if rate, err = queryCount("rate", values["rate"], tap.DefaultRate, tap.MaxRate); err == nil {
		count, err = queryCount("count", values["count"], math.MaxInt, math.MaxInt)
	}
	return pattern, values["where"], rate, count, err
}

// queryCount parses the value of a parameter, a number from 1 to limit. An empty value is ifAbsent.
func queryCount(name, value string, ifAbsent, limit int) (int, error) {
	if value == "" {
		return ifAbsent, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > limit {
		return 0, badParameter("%s: %q, want a whole number from 1 to %d", name, value, limit)
	}
	return n, nil
}

// lines writes values as lines of JSON and flushes each line.
type lines struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

func (l *lines) write(v any) error {
	doc, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := l.rc.SetWriteDeadline(time.Now().Add(tapLineTimeout)); err != nil {
		return err
	}
	if _, err := l.w.Write(append(plain.JSON(doc), '\n')); err != nil {
		return err
	}
	return l.rc.Flush()
}
