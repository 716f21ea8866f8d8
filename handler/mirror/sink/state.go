package sink

import (
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/framegate/framegate/resolver/plain"
)

// maxReason bounds the text of an error in Stats and in the log, in bytes.
const maxReason = 512

// attempt is what was tried when a state changes.
type attempt int

const (
	connecting attempt = iota
	delivering
)

// state says whether the server can be reached, and logs it.
//
//	new ──ok──> up <──ok── down          a connection alone does not end a down that came from delivering:
//	 └──failed──────────────^ ^            a server may take connections and refuse every record
//	            up ──failed───┘
type state struct {
	log     *slog.Logger
	changes *rate.Limiter  // of log lines about changes
	still   rate.Sometimes // of log lines about a sink that is still down
	refused rate.Sometimes // of log lines about refused records

	mu     sync.Mutex // guards what follows
	now    string     // "" for new
	reason string
	during attempt // of what failed, while down
	silent int     // changes that were not logged since the last that was
}

func newState(cfg Config, kind string) *state {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &state{
		log:     log.With("mirror", cfg.Name, "kind", kind),
		changes: rate.NewLimiter(rate.Every(time.Minute), 6),
		still:   rate.Sometimes{Interval: time.Minute},
		refused: rate.Sometimes{Interval: time.Minute},
	}
}

// ok says that an attempt succeeded.
func (s *state) ok(a attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == StateUp || s.now == StateDown && a < s.during {
		return
	}
	s.now, s.reason = StateUp, ""
	s.changedLocked(s.log.Info, "mirror is up")
}

// failed says that an attempt failed, and why.
func (s *state) failed(a attempt, err error) {
	reason := bounded(err.Error())
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.now
	if before == StateDown && a < s.during {
		return
	}
	s.now, s.reason, s.during = StateDown, reason, a
	if before == StateDown {
		s.still.Do(func() { s.log.Warn("mirror is still down", "error", s.reason) })
		return
	}
	s.still.Do(func() {}) // the line about the change is the first of its minute
	s.changedLocked(s.log.Warn, "mirror is down", "error", s.reason)
}

// changedLocked logs a change, unless there were many lately.
func (s *state) changedLocked(log func(msg string, args ...any), msg string, args ...any) {
	if !s.changes.Allow() {
		s.silent++
		return
	}
	if s.silent > 0 {
		args = append(args, "changes_not_logged", s.silent)
		s.silent = 0
	}
	log(msg, args...)
}

// refuses says that the server refused a record for good, and why.
func (s *state) refuses(reason string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused.Do(func() {
		s.log.Warn("mirror dropped a record that its server refuses", "reason", reason, "error", bounded(err.Error()))
	})
}

// get returns the state and why it is down.
func (s *state) get() (now, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == "" {
		return StateNew, ""
	}
	return s.now, s.reason
}

// bounded returns text of a server in one line of at most about maxReason bytes.
func bounded(s string) string {
	if len(s) > maxReason {
		s = s[:maxReason] + "..."
	}
	return plain.Line(s)
}
