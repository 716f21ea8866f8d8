package admin

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/framegate/framegate/resolver/cluster"
)

// EndpointStatus counts what is open to an endpoint now.
type EndpointStatus struct {
	Address      string `json:"address"`                 // host:port or unix:/path
	Connections  int    `json:"connections"`             // that take calls
	Streams      int    `json:"streams"`                 // calls under way
	ConnectError string `json:"connect_error,omitempty"` // why the last dial failed; empty if it succeeded
}

// groupAnswer is the state of a group of endpoints: the instances of a service, or the endpoints that a backend of a route
// lists.
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

// The states. If several apply to an endpoint, it is in the first of them.
const (
	StateRefused     State = "refused"     // its address is not allowed: it gets no calls
	StateUnresolved  State = "unresolved"  // it is a name without an address, as far as is known
	StateOff         State = "off"         // its weight is 0: it gets no calls
	StateUnhealthy   State = "unhealthy"   // its health checks fail
	StateEjected     State = "ejected"     // its calls failed
	StateUnreachable State = "unreachable" // it cannot be connected to: calls go to others, if there are any
	StateUsable      State = "usable"
)

// states has all states, worst first.
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

// endpointsAPI shows the endpoints: what is open to each, and their groups.
type endpointsAPI struct {
	endpoints func() []EndpointStatus
	groups    func() ([]cluster.State, []cluster.EndpointState)
}

func (api *endpointsAPI) list(w http.ResponseWriter, _ *http.Request) error {
	if api.endpoints == nil {
		return notProvided("endpoints")
	}
	answer := struct {
		Endpoints []EndpointStatus `json:"endpoints"`
		Groups    []groupAnswer    `json:"groups"`
	}{append([]EndpointStatus{}, api.endpoints()...), []groupAnswer{}}
	slices.SortFunc(answer.Endpoints, func(a, b EndpointStatus) int { return cmp.Compare(a.Address, b.Address) })
	if api.groups != nil {
		groups, endpoints := api.groups()
		answer.Groups = groupAnswers(groups, endpoints, answer.Endpoints)
	}
	return writeJSON(w, http.StatusOK, answer)
}

// groupAnswers returns the groups with their endpoints. Groups of the same ID are merged, because an endpoint names its group
// by ID only.
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

// union returns the strings that are in a or b, sorted.
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
	if a.ConnectError == "" && e.Unreachable != nil { // the pool has forgotten the endpoint
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
