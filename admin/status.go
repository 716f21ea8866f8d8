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

func healthz(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, healthAnswer{Status: "ok"})
}

// statusAPI tells how this framegate is: whether it is ready, its metrics and its configuration.
type statusAPI struct {
	ready   func() error
	metrics http.Handler
	config  func() ([]byte, error)
	guard   *guard
}

func (api *statusAPI) readyz(w http.ResponseWriter, r *http.Request) error {
	if api.ready != nil {
		if err := api.ready(); err != nil {
			answer := healthAnswer{Status: "not ready"}
			if api.guard.trusts(r) { // the error may name hosts and ports
				answer.Reason = plain.WithoutPasswords(err.Error())
			}
			return writeJSON(w, http.StatusServiceUnavailable, answer)
		}
	}
	return writeJSON(w, http.StatusOK, healthAnswer{Status: "ready"})
}

func (api *statusAPI) getMetrics(w http.ResponseWriter, r *http.Request) error {
	if api.metrics == nil {
		return notProvided("metrics")
	}
	api.metrics.ServeHTTP(w, r)
	return nil
}

func (api *statusAPI) getConfig(w http.ResponseWriter, _ *http.Request) error {
	if api.config == nil {
		return notProvided("config")
	}
	doc, err := api.config()
	if err != nil {
		return err
	}
	if len(doc) == 0 {
		return errors.New("the configuration is empty")
	}
	return writeJSON(w, http.StatusOK, json.RawMessage(doc))
}
