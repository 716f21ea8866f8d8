package app

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/plain"
)

// schemaChange is the output of a command that changed a schema.
type schemaChange struct {
	Name     string        `yaml:"name"`
	Outcome  match.Outcome `yaml:"outcome"`
	Revision int64         `yaml:"revision,omitempty"`
}

func writeSchemaChange(w io.Writer, out *outputFlag, c schemaChange) error {
	if out.format != outputTable {
		return out.write(w, c)
	}
	_, err := fmt.Fprintf(w, "schema %s: %s%s\n", plain.Text(c.Name), c.Outcome, inRevision(c.Revision))
	return err
}

// listedSchema is a schema in the output of -o json and yaml.
type listedSchema struct {
	Name     string   `yaml:"name"`
	Revision int64    `yaml:"revision"`
	Methods  []string `yaml:"methods"`
}

func listSchema(st etcdstore.StoredSchema) listedSchema {
	return listedSchema{Name: st.Name, Revision: st.Revision, Methods: st.Schema.Methods()}
}

// writeSchema prints the methods of a schema, whose Err must be nil.
func writeSchema(w io.Writer, out *outputFlag, st etcdstore.StoredSchema) error {
	if out.format != outputTable {
		return out.write(w, listSchema(st))
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "METHOD\tREQUEST\tRESPONSE")
	for _, path := range st.Schema.Methods() {
		m := st.Schema.Method(path)
		fmt.Fprintf(t, "%s\t%s%s\t%s%s\n", plain.Text(path), streamMark(m.IsStreamingClient()), plain.Text(string(m.Input().FullName())), streamMark(m.IsStreamingServer()), plain.Text(string(m.Output().FullName())))
	}
	return t.Flush()
}

func streamMark(streaming bool) string {
	if streaming {
		return "stream "
	}
	return ""
}

// writeSchemas prints the schemas whose Err is nil.
func writeSchemas(w io.Writer, out *outputFlag, all []etcdstore.StoredSchema) error {
	if out.format != outputTable {
		list := struct {
			Schemas []listedSchema `yaml:"schemas"`
		}{Schemas: []listedSchema{}}
		for _, st := range all {
			if st.Err == nil {
				list.Schemas = append(list.Schemas, listSchema(st))
			}
		}
		return out.write(w, list)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tREVISION\tMETHODS\tBYTES")
	for _, st := range all {
		if st.Err == nil {
			fmt.Fprintf(t, "%s\t%d\t%d\t%d\n", plain.Text(st.Name), st.Revision, len(st.Schema.Methods()), len(st.Schema.Encode()))
		}
	}
	return t.Flush()
}
