package admin

import (
	"net/http"
	"time"
)

// DrainStatus says what is going on while a framegate drains.
type DrainStatus struct {
	Since       time.Time     // when it was first asked to
	Delay       time.Duration // drain.delay: before clients are told to go
	Timeout     time.Duration // drain.timeout: after which calls are ended
	Connections int           // of clients
	Calls       int           // under way
}

// drain starts the drain, or says how far it is. The process ends some time after the answer.
func (s *Server) drain(w http.ResponseWriter, _ *http.Request) error {
	if s.cfg.Control.Drain == nil {
		return notProvided("drain")
	}
	st := s.cfg.Control.Drain()
	return writeJSON(w, http.StatusAccepted, struct {
		Status      string    `json:"status"`
		Since       time.Time `json:"since"`
		Delay       string    `json:"delay"`
		Timeout     string    `json:"timeout"`
		Connections int       `json:"connections"`
		Calls       int       `json:"calls"`
	}{"draining", st.Since, st.Delay.String(), st.Timeout.String(), st.Connections, st.Calls})
}
