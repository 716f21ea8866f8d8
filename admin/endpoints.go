package admin

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/framegate/framegate/resolver/cluster"
)

// EndpointStatus is what is open to an endpoint now.
type EndpointStatus struct {
	Address      string `json:"address"`                 // host:port or unix:/path
	Connections  int    `json:"connections"`             // that take calls
	Streams      int    `json:"streams"`                 // calls under way
	ConnectError string `json:"connect_error,omitempty"` // why no connection could be made the last time; empty if one could
}

// groupAnswer is how a group of endpoints does: the instances of a service, or what a backend of a route lists.
type groupAnswer struct {
	Service string `json:"service,omitempty"`
	Tags    string `json:"tags,omitempty"`
	Source  string `json:"source,omitempty"`
	Route   string `json:"route,omitempty"`
	Backend string `json:"backend,omitempty"`

	Routes             []string              `json:"routes"`
	Usable             int                   `json:"usable"`
	Panic              bool                  `json:"panic"`
	PanicCalls         uint64                `json:"panic_calls"`
	Ejections          uint64                `json:"ejections"`
	EjectionsPrevented uint64                `json:"ejections_prevented"`
	Endpoints          []groupEndpointAnswer `json:"endpoints"`
}

type groupEndpointAnswer struct {
	Address      string     `json:"address"`
	Name         string     `json:"name,omitempty"`
	State        State      `json:"state"`
	Weight       int        `json:"weight"`
	Active       int        `json:"active"`
	Usable       bool       `json:"usable"`
	Healthy      bool       `json:"healthy"`
	Reason       string     `json:"reason,omitempty"`
	LookupError  string     `json:"lookup_error,omitempty"`
	Checked      *time.Time `json:"checked,omitempty"`
	HealthError  string     `json:"health_error,omitempty"`
	EjectedUntil *time.Time `json:"ejected_until,omitempty"`
	KeptUntil    *time.Time `json:"kept_until,omitempty"`
	Trial        bool       `json:"trial"`
	Connections  int        `json:"connections"`
	ConnectError string     `json:"connect_error,omitempty"`
}

// State sums up an endpoint in one word.
type State string

// The states. Of several the first counts.
const (
	StateRefused     State = "refused"     // it may not be an endpoint: it gets no calls
	StateUnresolved  State = "unresolved"  // it is a name without an address, as far as is known
	StateOff         State = "off"         // its weight is 0: it gets no calls
	StateUnhealthy   State = "unhealthy"   // its health checks fail
	StateEjected     State = "ejected"     // its calls failed
	StateUnreachable State = "unreachable" // it cannot be connected to: calls pass it by where there is another
	StateUsable      State = "usable"
)

// states are worst first.
var states = []State{StateRefused, StateUnresolved, StateUnhealthy, StateEjected, StateUnreachable, StateUsable, StateOff}

func stateOf(e cluster.EndpointState) State {
	switch {
	case e.Exclusion == cluster.ExcludedRefused:
		return StateRefused
	case e.Exclusion == cluster.ExcludedUnresolved:
		return StateUnresolved
	case e.Weight == 0:
		return StateOff
	case !e.Healthy:
		return StateUnhealthy
	case !e.EjectedUntil.IsZero():
		return StateEjected
	case e.Unreachable != nil:
		return StateUnreachable
	}
	return StateUsable
}

func (s *Server) listEndpoints(w http.ResponseWriter, _ *http.Request) error {
	control := &s.cfg.Control
	if control.Endpoints == nil {
		return notProvided("endpoints")
	}
	answer := struct {
		Endpoints []EndpointStatus `json:"endpoints"`
		Groups    []groupAnswer    `json:"groups"`
	}{append([]EndpointStatus{}, control.Endpoints()...), []groupAnswer{}}
	slices.SortFunc(answer.Endpoints, func(a, b EndpointStatus) int { return cmp.Compare(a.Address, b.Address) })
	if control.Groups != nil {
		groups, endpoints := control.Groups()
		answer.Groups = groupAnswers(groups, endpoints, answer.Endpoints)
	}
	return writeJSON(w, http.StatusOK, answer)
}

// groupAnswers puts endpoints with their groups. Groups of one name, whose endpoints cannot be told from each other, are
// one in the answer.
func groupAnswers(groups []cluster.State, endpoints []cluster.EndpointState, open []EndpointStatus) []groupAnswer {
	byAddress := make(map[string]EndpointStatus, len(open))
	for _, e := range open {
		byAddress[e.Address] = e
	}
	of := map[cluster.ID][]groupEndpointAnswer{}
	for _, e := range endpoints {
		of[e.ID] = append(of[e.ID], endpointAnswer(e, byAddress[e.Address]))
	}
	all := []groupAnswer{}
	place := map[cluster.ID]int{}
	for _, g := range groups {
		i, ok := place[g.ID]
		if !ok {
			i = len(all)
			place[g.ID] = i
			n := g.ID
			all = append(all, groupAnswer{Service: n.Service, Tags: n.Tags, Source: n.Source, Route: n.Route, Backend: n.Backend, Endpoints: append([]groupEndpointAnswer{}, of[n]...)})
		}
		a := &all[i]
		a.Routes = union(a.Routes, g.Routes)
		a.Usable += g.Usable
		a.Panic = a.Panic || g.Panic
		a.PanicCalls += g.PanicCalls
		a.Ejections += g.Ejections
		a.EjectionsPrevented += g.EjectionsPrevented
	}
	return all
}

// union returns what is in either, sorted.
func union(a, b []string) []string {
	set := map[string]bool{}
	for _, s := range append(slices.Clone(a), b...) {
		set[s] = true
	}
	return slices.Sorted(maps.Keys(set))
}

func endpointAnswer(e cluster.EndpointState, open EndpointStatus) groupEndpointAnswer {
	a := groupEndpointAnswer{
		Address: e.Address, Name: e.Name, State: stateOf(e), Weight: e.Weight, Active: e.Active, Usable: e.Usable,
		Healthy: e.Healthy, Reason: e.Reason, Trial: e.Trial, Connections: open.Connections, ConnectError: open.ConnectError,
	}
	if a.ConnectError == "" && e.Unreachable != nil { // the pool has nothing of it any more
		a.ConnectError = e.Unreachable.Error()
	}
	if !e.Checked.IsZero() {
		a.Checked = &e.Checked
	}
	if e.LookupError != nil {
		a.LookupError = e.LookupError.Error()
	}
	if e.HealthError != nil {
		a.HealthError = e.HealthError.Error()
	}
	if !e.EjectedUntil.IsZero() {
		a.EjectedUntil = &e.EjectedUntil
	}
	if !e.KeptUntil.IsZero() {
		a.KeptUntil = &e.KeptUntil
	}
	return a
}
