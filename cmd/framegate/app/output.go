package app

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/framegate/framegate/resolver/plain"
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

// inRevision returns the end of a line about something at a revision, such as " (revision 12)"; "" for 0.
func inRevision(revision int64) string {
	if revision == 0 {
		return ""
	}
	return fmt.Sprintf(" (revision %d)", revision)
}
