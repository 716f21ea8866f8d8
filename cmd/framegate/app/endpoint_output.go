package app

import (
	"cmp"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/framegate/framegate/admin"
	"github.com/framegate/framegate/resolver/plain"
)

// listedGroup is a group of endpoints: in the answer of the admin server, and in the command's output in JSON and YAML.
type listedGroup struct {
	Service string `json:"service" yaml:"service,omitempty"`
	Tags    string `json:"tags" yaml:"tags,omitempty"`
	Source  string `json:"source" yaml:"source,omitempty"`
	Route   string `json:"route" yaml:"route,omitempty"`
	Backend string `json:"backend" yaml:"backend,omitempty"`

	Routes             []string         `json:"routes" yaml:"routes"`
	Usable             int              `json:"usable" yaml:"usable"`
	Panic              bool             `json:"panic" yaml:"panic"`
	PanicCalls         uint64           `json:"panic_calls" yaml:"panic_calls"`
	Ejections          uint64           `json:"ejections" yaml:"ejections"`
	EjectionsPrevented uint64           `json:"ejections_prevented" yaml:"ejections_prevented"`
	Endpoints          []listedEndpoint `json:"endpoints" yaml:"endpoints"`
}

type listedEndpoint struct {
	Address      string      `json:"address" yaml:"address"`
	Name         string      `json:"name" yaml:"name,omitempty"`
	State        admin.State `json:"state" yaml:"state"`
	Weight       int         `json:"weight" yaml:"weight"`
	Active       int         `json:"active" yaml:"active"`
	Usable       bool        `json:"usable" yaml:"usable"`
	Healthy      bool        `json:"healthy" yaml:"healthy"`
	Reason       string      `json:"reason" yaml:"reason,omitempty"`
	LookupError  string      `json:"lookup_error" yaml:"lookup_error,omitempty"`
	Checked      *time.Time  `json:"checked" yaml:"checked,omitempty"`
	HealthError  string      `json:"health_error" yaml:"health_error,omitempty"`
	EjectedUntil *time.Time  `json:"ejected_until" yaml:"ejected_until,omitempty"`
	KeptUntil    *time.Time  `json:"kept_until" yaml:"kept_until,omitempty"`
	Trial        bool        `json:"trial" yaml:"trial"`
	Connections  int         `json:"connections" yaml:"connections"`
	ConnectError string      `json:"connect_error" yaml:"connect_error,omitempty"`
}

// writeEndpoints prints groups. The table shows times relative to now.
func writeEndpoints(w io.Writer, out *outputFlag, groups []listedGroup, now time.Time) error {
	if out.format != outputTable {
		return out.write(w, struct {
			Groups []listedGroup `yaml:"groups"`
		}{groups})
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SERVICE/ROUTE\tBACKEND\tADDRESS\tWEIGHT\tSTATE\tACTIVE\tCONNECTIONS")
	for _, g := range groups {
		of, backend := "route "+plain.Text(g.Route), plain.Text(g.Backend)
		if g.Service != "" {
			of, backend = "service "+plain.Text(g.Service), "-"
			if g.Tags != "" {
				of += " " + plain.Text(g.Tags)
			}
		}
		for _, e := range g.Endpoints {
			fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%d\t%d\n", of, backend, namedAddress(e.Address, e.Name), e.Weight, e.shownState(g.Panic, now), e.Active, e.Connections)
		}
		if len(g.Endpoints) == 0 {
			fmt.Fprintf(t, "%s\t%s\t-\t-\tno endpoint\t-\t-\n", of, backend)
		}
	}
	return t.Flush()
}

// namedAddress returns an address for display, followed by the DNS name that resolved to it, if any.
func namedAddress(address, name string) string {
	if name == "" || name == address {
		return plain.Text(address)
	}
	return plain.Text(address) + " (" + plain.Text(name) + ")"
}

// shownState returns the endpoint's state for display, with the reason. inPanic means that the group's calls go to all of its
// endpoints, because too few are usable.
func (e *listedEndpoint) shownState(inPanic bool, now time.Time) string {
	var s string
	switch e.State {
	case admin.StateUsable:
		s = "ok"
		if e.Trial {
			s += ", on trial"
		}
		if e.KeptUntil != nil {
			s = fmt.Sprintf("ok, registered no more, kept until %s", e.KeptUntil.UTC().Format(time.RFC3339))
		}
		if e.LookupError != "" {
			s += ", as of an earlier look-up: " + plain.Text(e.LookupError)
		}
		return s
	case admin.StateUnreachable:
		return "cannot connect: " + plain.Text(e.ConnectError)
	case admin.StateUnhealthy:
		s = "unhealthy: " + plain.Text(cmp.Or(e.HealthError, "its last check was good, but not enough in a row"))
	case admin.StateEjected:
		s = "ejected"
		if e.EjectedUntil != nil {
			s = fmt.Sprintf("ejected until %s, in %s", e.EjectedUntil.UTC().Format(time.RFC3339), max(e.EjectedUntil.Sub(now), 0).Round(time.Second))
		}
	default:
		s = plain.Text(string(e.State))
		if e.Reason != "" {
			s += ": " + plain.Text(e.Reason)
		}
		return s
	}
	if inPanic {
		s += " (used in panic)"
	}
	return s
}
