package accesslog

import (
	"log/slog"
	"time"

	"golang.org/x/time/rate"
)

// lossInterval is the time between two log lines about losses.
const lossInterval = time.Minute

// losses warns in framegate's log that the access log misses calls. It is owned by one goroutine.
type losses struct {
	often    rate.Sometimes
	reported int64 // how many dropped calls were reported so far
	err      error // of the last write that failed since the last report; nil if none failed
}

func newLosses() losses { return losses{often: rate.Sometimes{Interval: lossInterval}} }

// report warns of the calls that were dropped since the last report, if there are any and lossInterval has passed. dropped
// is the number of calls dropped since the start.
func (s *losses) report(log *slog.Logger, dropped int64) {
	if dropped != s.reported {
		s.often.Do(func() { s.tell(log, dropped) })
	}
}

// tell warns of the calls that were dropped since the last report.
func (s *losses) tell(log *slog.Logger, dropped int64) {
	why := "its writer was too slow"
	if s.err != nil {
		why = s.err.Error()
	}
	log.Warn("the access log misses calls", "lost", dropped-s.reported, "lost_since_start", dropped, "error", why)
	s.reported, s.err = dropped, nil
}

// end reports the calls that were not reported yet, and the number of all, if there are any.
func (s *losses) end(log *slog.Logger, dropped int64) {
	if dropped == 0 {
		return
	}
	if dropped != s.reported {
		s.tell(log, dropped)
	}
	log.Warn("the access log has ended incomplete", "lost_since_start", dropped)
}
