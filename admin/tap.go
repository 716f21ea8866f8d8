package admin

import (
	"encoding/json"
	"errors"
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
	// tapLineTimeout is how long a client may take to read a line before it is given up.
	tapLineTimeout = 10 * time.Second
	// tapHeartbeat is how often a line goes out at least, so that a client that has gone is noticed.
	tapHeartbeat = 5 * time.Second
)

// missedLine says how many messages came too fast to be shown since the last such line; 0 in a heartbeat.
type missedLine struct {
	Missed int64 `json:"missed"`
}

// watch shows messages, a line of JSON each, until the client goes or count are shown.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) error {
	if s.cfg.Control.Watch == nil {
		return notProvided("tap")
	}
	pattern, where, rate, count, err := tapQuery(r)
	if err != nil {
		return err
	}
	checked, err := take(r.Context(), s.work.answers, 1)
	if err != nil {
		return err
	}
	watcher, err := s.cfg.Control.Watch(pattern, rate, where)
	checked()
	switch {
	case errors.Is(err, handler.ErrNotWatched):
		return notProvided("tap")
	case errors.Is(err, tap.ErrTooMany):
		return &problem{status: http.StatusServiceUnavailable, Reason: reasonTooMany, Message: err.Error(), cause: err}
	case err != nil:
		return badParameter("%v", err)
	}
	defer watcher.Close()
	s.log.Info("admin: tap opened", "method", pattern.String(), "where", where, "from", r.RemoteAddr)
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
			err = out.write(missedLine{watcher.Missed()})
		case m := <-watcher.Messages():
			line, ok := watcher.Show(r.Context(), m)
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
	if n := watcher.Missed(); n > 0 {
		_ = out.write(missedLine{n})
	}
	return nil
}

// tapQuery reads what is to be shown.
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

// queryCount reads a number from 1 to most.
func queryCount(name, value string, otherwise, most int) (int, error) {
	if value == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > most {
		return 0, badParameter("%s: %q, want a whole number from 1 to %d", name, value, most)
	}
	return n, nil
}

// lines writes lines of JSON as they come.
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
