package accesslog

import (
	"log/slog"
	"time"
)

// lossInterval is the time between two log lines about losses.
const lossInterval = time.Minute

// losses says in a log that calls were not logged. It is owned by one goroutine.
type losses struct {
	reported int64     // of all dropped
	at       time.Time // of the last report
	err      error     // of the last write that failed, since then
}

// report logs the losses since the last report, if there are any and that is lossInterval ago. dropped is their number
// since the start.
func (s *losses) report(log *slog.Logger, dropped int64, now time.Time) {
	if dropped == s.reported || !s.at.IsZero() && now.Sub(s.at) < lossInterval {
		return
	}
	why := "its writer was too slow"
	if s.err != nil {
		why = s.err.Error()
	}
	log.Warn("the access log misses calls", "lost", dropped-s.reported, "lost_since_start", dropped, "error", why)
	s.reported, s.at, s.err = dropped, now, nil
}

// end logs the number of all losses, if there are any.
func (s *losses) end(log *slog.Logger, dropped int64) {
	if dropped == 0 {
		return
	}
	s.at = time.Time{}
	s.report(log, dropped, time.Now())
	log.Warn("the access log has ended incomplete", "lost_since_start", dropped)
}
