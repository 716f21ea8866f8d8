package app

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"github.com/framegate/framegate/resolver"
)

// outputFlag is -o: how a command prints its result.
type outputFlag struct{ format string }

const (
	outputTable = "table"
	outputJSON  = "json"
	outputYAML  = "yaml"
)

func (o *outputFlag) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.format, "output", "o", outputTable, "table, json or yaml")
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
		enc := yaml.NewEncoder(w)
		enc.SetIndent(2)
		return enc.Encode(v)
	}
	// Through YAML, so that both have the same keys and a duration is 1.5s in both, as routes are written.
	doc, err := yaml.Marshal(v)
	if err != nil {
		return err
	}
	var generic any
	if err := yaml.Unmarshal(doc, &generic); err != nil {
		return err
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(generic)
}

// routeChange is what became of a route.
type routeChange struct {
	Name     string `yaml:"name"`
	Outcome  string `yaml:"outcome"`
	Revision int64  `yaml:"revision,omitempty"`
}

func (o *outputFlag) writePut(w io.Writer, results []resolver.PutResult) error {
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
		line := fmt.Sprintf("route %s: %s", c.Name, c.Outcome)
		if c.Revision > 0 {
			line += fmt.Sprintf(" (revision %d)", c.Revision)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// writeRoute prints a route; as JSON or YAML it is a document that can be put.
func (o *outputFlag) writeRoute(w io.Writer, r *resolver.StoredRoute) error {
	if o.format != outputTable {
		return o.write(w, r.Route)
	}
	return writeTable(w, []*resolver.StoredRoute{r})
}

// writeRoutes prints routes; as JSON or YAML they are a document that can be put.
func (o *outputFlag) writeRoutes(w io.Writer, routes []*resolver.StoredRoute) error {
	if o.format == outputTable {
		return writeTable(w, routes)
	}
	list := struct {
		Routes []*resolver.Route `yaml:"routes"`
	}{Routes: []*resolver.Route{}}
	for _, r := range routes {
		list.Routes = append(list.Routes, r.Route)
	}
	return o.write(w, list)
}

func writeTable(w io.Writer, routes []*resolver.StoredRoute) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tMODE\tPRIORITY\tREVISION\tROUTE")
	for _, r := range routes {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\n", r.Route.Name, r.Route.Mode, r.Route.Priority, r.Revision, r.Route.Summary())
	}
	return t.Flush()
}
