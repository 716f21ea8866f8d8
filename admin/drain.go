package admin

import (
	"net/http"
	"time"
)

// DrainStatus is the progress of a drain.
type DrainStatus struct {
	Since       time.Time     // when the first request to drain came
	Delay       time.Duration // drain.delay: from then until clients get GOAWAY
	Timeout     time.Duration // drain.timeout: from GOAWAY until the calls that are left are ended
	Connections int           // of clients
	Calls       int           // under way
}

// drainAPI makes this process drain.
type drainAPI struct {
	drain func() DrainStatus
}

// start starts the drain, unless it has begun, and answers with its progress. The process exits after the drain.
func (api *drainAPI) start(w http.ResponseWriter, _ *http.Request) error {
	if api.drain == nil {
		return notProvided("drain")
	}
	st := api.drain()
	return writeJSON(w, http.StatusAccepted, struct {
		Status      string    `json:"status"`
		Since       time.Time `json:"since"`
		Delay       string    `json:"delay"`
		Timeout     string    `json:"timeout"`
		Connections int       `json:"connections"`
		Calls       int       `json:"calls"`
	}{"draining", st.Since, st.Delay.String(), st.Timeout.String(), st.Connections, st.Calls})
}
