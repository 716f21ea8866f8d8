package admin

import (
	"net/http"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/mirror"
	"github.com/framegate/framegate/resolver/plain"
)

// MirrorAnswer is the state of a mirror.
type MirrorAnswer struct {
	Name         string                   `json:"name" yaml:"name"`
	Route        string                   `json:"route" yaml:"route"`
	Source       string                   `json:"source" yaml:"source"` // of the route
	Kind         string                   `json:"kind" yaml:"kind"`     // backend, record, kafka or elasticsearch
	State        string                   `json:"state" yaml:"state"`   // new, up or down
	Error        string                   `json:"error,omitempty" yaml:"error,omitempty"`
	Percent      float64                  `json:"percent" yaml:"percent"`
	Active       int64                    `json:"active" yaml:"active"`
	Calls        int64                    `json:"calls" yaml:"calls"`
	Messages     int64                    `json:"messages" yaml:"messages"`
	Bytes        int64                    `json:"bytes" yaml:"bytes"`
	Waiting      int                      `json:"waiting" yaml:"waiting"`
	WaitingBytes int64                    `json:"waiting_bytes" yaml:"waiting_bytes"`
	LagSeconds   float64                  `json:"lag_seconds" yaml:"lag_seconds"`
	Codes        map[string]int64         `json:"codes" yaml:"codes"`
	Dropped      map[mirror.Dropped]int64 `json:"dropped" yaml:"dropped"`
	Compared     map[mirror.Result]int64  `json:"compared,omitempty" yaml:"compared,omitempty"`
}

// mirrorsAPI shows the mirrors of the routes in force.
type mirrorsAPI struct {
	mirrors func() []*mirror.Mirror
}

func (api *mirrorsAPI) list(w http.ResponseWriter, _ *http.Request) error {
	if api.mirrors == nil {
		return notProvided("mirrors")
	}
	answer := struct {
		Mirrors []MirrorAnswer `json:"mirrors"`
	}{Mirrors: []MirrorAnswer{}}
	for _, m := range api.mirrors() {
		answer.Mirrors = append(answer.Mirrors, mirrorAnswer(m.Status()))
	}
	return writeJSON(w, http.StatusOK, answer)
}

func mirrorAnswer(st mirror.Status) MirrorAnswer {
	a := MirrorAnswer{
		Name: st.Name, Route: st.Route, Source: st.Source, Kind: st.Kind, State: st.State, Error: plain.WithoutPasswords(st.Error), Percent: st.Percent,
		Active: st.Active, Calls: st.Calls, Messages: st.Messages, Bytes: st.Bytes, Waiting: st.Waiting, WaitingBytes: st.WaitingBytes,
		LagSeconds: st.Lag.Seconds(), Codes: map[string]int64{}, Dropped: st.Dropped, Compared: st.Compared,
	}
	for code, n := range st.Codes {
		a.Codes[local.CodeName(code)] += n
	}
	return a
}

// differences answers with the differences of all mirrors of a name, the oldest of each first.
func (api *mirrorsAPI) differences(w http.ResponseWriter, r *http.Request) error {
	if api.mirrors == nil {
		return notProvided("mirrors")
	}
	name, found := r.PathValue("name"), false
	all := []mirror.Difference{}
	for _, m := range api.mirrors() {
		if m.Name() == name {
			found = true
			all = append(all, m.Differences()...)
		}
	}
	if !found {
		return notFound("mirror %s: no route in force has a mirror of that name", plain.Text(name))
	}
	return writeJSON(w, http.StatusOK, all)
}
