package app

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/plain"
	"github.com/framegate/framegate/resolver/spec"
)

// routeChange is a line of output about a route that was changed, or would be.
type routeChange struct {
	Name     string `yaml:"name"`
	Outcome  string `yaml:"outcome"`
	Revision int64  `yaml:"revision,omitempty"`
}

func writePut(w io.Writer, out *outputFlag, results []etcdstore.PutResult) error {
	changes := make([]routeChange, len(results))
	for i, r := range results {
		changes[i] = routeChange{Name: r.Name, Outcome: string(r.Outcome), Revision: r.Revision}
	}
	return writeChanges(w, out, changes)
}

func writeDelete(w io.Writer, out *outputFlag, name string) error {
	return writeChanges(w, out, []routeChange{{Name: name, Outcome: "deleted"}})
}

func writeChanges(w io.Writer, out *outputFlag, changes []routeChange) error {
	if out.format != outputTable {
		return out.write(w, changes)
	}
	for _, c := range changes {
		if _, err := fmt.Fprintf(w, "route %s: %s%s\n", plain.Text(c.Name), c.Outcome, inRevision(c.Revision)); err != nil {
			return err
		}
	}
	return nil
}

// writeRoute prints a route: a table of one row, or in JSON or YAML a document that can be put.
func writeRoute(w io.Writer, out *outputFlag, r *etcdstore.StoredRoute) error {
	if out.format != outputTable {
		return out.write(w, r.Route)
	}
	return writeTable(w, []*etcdstore.StoredRoute{r}, nil)
}

// writeRoutes prints routes in JSON or YAML, as a document that can be put.
func writeRoutes(w io.Writer, out *outputFlag, routes []*etcdstore.StoredRoute) error {
	list := struct {
		Routes []*spec.Route `yaml:"routes"`
	}{Routes: []*spec.Route{}}
	for _, r := range routes {
		list.Routes = append(list.Routes, r.Route)
	}
	return out.write(w, list)
}

// writeTable prints a row for each route and each bad document, sorted by name, as routes and bad must be.
func writeTable(w io.Writer, routes []*etcdstore.StoredRoute, bad []*etcdstore.DocumentError) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tMODE\tPRIORITY\tREVISION\tROUTE")
	for len(routes) > 0 || len(bad) > 0 {
		if len(bad) == 0 || len(routes) > 0 && routes[0].Route.Name < bad[0].Name {
			r := routes[0]
			fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\n", r.Route.Name, r.Route.Mode, r.Route.Priority, r.Revision, plain.Line(r.Route.Summary()))
			routes = routes[1:]
			continue
		}
		fmt.Fprintf(t, "%s\t-\t-\t%d\terror: %s\n", plainName(bad[0].Name), bad[0].Revision, oneLine(bad[0].Err))
		bad = bad[1:]
	}
	return t.Flush()
}

// plainName returns the name of a document that another tool may have written: in quotes, unless it is valid for a route.
func plainName(name string) string {
	if spec.ValidName(name) {
		return name
	}
	return strconv.Quote(name)
}
