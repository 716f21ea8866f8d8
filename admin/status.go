package admin

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/framegate/framegate/resolver/plain"
)

// healthAnswer is the answer to a probe. "Not ready" has this form too and not that of an error.
type healthAnswer struct {
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, healthAnswer{Status: "ok"})
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) error {
	if s.cfg.Ready != nil {
		if err := s.cfg.Ready(); err != nil {
			answer := healthAnswer{Status: "not ready"}
			if s.guard.trusts(r) { // the error may name hosts and ports
				answer.Reason = plain.WithoutPasswords(err.Error())
			}
			return writeJSON(w, http.StatusServiceUnavailable, answer)
		}
	}
	return writeJSON(w, http.StatusOK, healthAnswer{Status: "ready"})
}

func (s *Server) metrics(w http.ResponseWriter, r *http.Request) error {
	if s.cfg.Metrics == nil {
		return notProvided("metrics")
	}
	s.cfg.Metrics.ServeHTTP(w, r)
	return nil
}

func (s *Server) config(w http.ResponseWriter, _ *http.Request) error {
	if s.cfg.Control.Config == nil {
		return notProvided("config")
	}
	doc, err := s.cfg.Control.Config()
	if err != nil {
		return err
	}
	if len(doc) == 0 {
		return errors.New("the configuration is empty")
	}
	return writeJSON(w, http.StatusOK, json.RawMessage(doc))
}
