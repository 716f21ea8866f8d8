package app

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/plain"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/resolver/strict"
)

// outputFlag is -o: how a command prints its result.
type outputFlag struct{ format string }

const (
	outputTable = "table"
	outputJSON  = "json"
	outputYAML  = "yaml"
)

func (o *outputFlag) register(cmd *cobra.Command) { o.registerWith(cmd, outputTable) }

// registerWith is register for a command whose default format is not the table.
func (o *outputFlag) registerWith(cmd *cobra.Command, format string) {
	cmd.Flags().StringVarP(&o.format, "output", "o", format, "table, json or yaml")
}

func (o *outputFlag) validate() error {
	switch o.format {
	case outputTable, outputJSON, outputYAML:
		return nil
	}
	return usageErrorf("-o: %q, want table, json or yaml", o.format)
}

// write prints v, which has yaml tags, as JSON or YAML.
func (o *outputFlag) write(w io.Writer, v any) error {
	if o.format == outputYAML {
		doc, err := plain.YAML(v)
		if err != nil {
			return err
		}
		_, err = w.Write(doc)
		return err
	}
	generic, err := strict.Generic(v)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(plain.JSONLines(w))
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(generic)
}

// routeChange is a line of output about a route that was changed, or would be.
type routeChange struct {
	Name     string `yaml:"name"`
	Outcome  string `yaml:"outcome"`
	Revision int64  `yaml:"revision,omitempty"`
}

func (o *outputFlag) writePut(w io.Writer, results []etcdstore.PutResult) error {
	changes := make([]routeChange, len(results))
	for i, r := range results {
		changes[i] = routeChange{Name: r.Name, Outcome: string(r.Outcome), Revision: r.Revision}
	}
	return o.writeChanges(w, changes)
}

func (o *outputFlag) writeDelete(w io.Writer, name string) error {
	return o.writeChanges(w, []routeChange{{Name: name, Outcome: "deleted"}})
}

func (o *outputFlag) writeChanges(w io.Writer, changes []routeChange) error {
	if o.format != outputTable {
		return o.write(w, changes)
	}
	for _, c := range changes {
		if _, err := fmt.Fprintf(w, "route %s: %s%s\n", plain.Text(c.Name), c.Outcome, inRevision(c.Revision)); err != nil {
			return err
		}
	}
	return nil
}

// inRevision returns the end of a line about something at a revision, such as " (revision 12)"; "" for 0.
func inRevision(revision int64) string {
	if revision == 0 {
		return ""
	}
	return fmt.Sprintf(" (revision %d)", revision)
}

// writeRoute prints a route: a table of one row, or in JSON or YAML a document that can be put.
func (o *outputFlag) writeRoute(w io.Writer, r *etcdstore.StoredRoute) error {
	if o.format != outputTable {
		return o.write(w, r.Route)
	}
	return writeTable(w, []*etcdstore.StoredRoute{r}, nil)
}

// writeRoutes prints routes in JSON or YAML, as a document that can be put.
func (o *outputFlag) writeRoutes(w io.Writer, routes []*etcdstore.StoredRoute) error {
	list := struct {
		Routes []*spec.Route `yaml:"routes"`
	}{Routes: []*spec.Route{}}
	for _, r := range routes {
		list.Routes = append(list.Routes, r.Route)
	}
	return o.write(w, list)
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
