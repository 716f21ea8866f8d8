package app

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/framegate/framegate/admin"
	"github.com/framegate/framegate/handler/mirror"
	"github.com/framegate/framegate/resolver/plain"
)

// newMirrorCommand returns `framegate mirror`. Its subcommands ask a running framegate.
func newMirrorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mirror",
		Short: "List the mirrors of a running framegate, and what their answers differ in",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cmd.Help(); err != nil {
				return err
			}
			return usageErrorf("%s: a command is missing, want list or diff", cmd.CommandPath())
		},
	}
	cmd.AddCommand(newMirrorListCommand(), newMirrorDiffCommand())
	return cmd
}

func newMirrorListCommand() *cobra.Command {
	var flags adminFlags
	var out outputFlag
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Print how each mirror does",
		Long: `Print the mirrors of the routes that a running framegate has in force, and how each does. CALLS are copies of calls that
began, ACTIVE those under way; DROPPED are copies of calls and messages that were left out, by reason; LAG is how long a
message waits.`,
		Example: `  framegate mirror list
  framegate mirror list -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.validate(); err != nil {
				return err
			}
			u, err := flags.path("/v1/mirrors")
			if err != nil {
				return err
			}
			var answer struct {
				Mirrors []admin.MirrorAnswer `json:"mirrors" yaml:"mirrors"`
			}
			if err := flags.getWithin(cmd.Context(), timeout, u.String(), &answer); err != nil {
				return err
			}
			if out.format != outputTable {
				return out.write(cmd.OutOrStdout(), answer)
			}
			return writeMirrors(cmd.OutOrStdout(), answer.Mirrors)
		},
	}
	flags.register(cmd, defaultAdmin)
	cmd.Flags().DurationVar(&timeout, "timeout", defaultAdminTimeout, "how long to wait for the answer")
	out.register(cmd)
	return cmd
}

func writeMirrors(w io.Writer, all []admin.MirrorAnswer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MIRROR\tROUTE\tKIND\tSTATE\tCALLS\tACTIVE\tMESSAGES\tBYTES\tDROPPED\tLAG\tCOMPARED")
	for _, m := range all {
		state := m.State
		if m.Error != "" {
			state += ": " + m.Error
		}
		lag := time.Duration(m.LagSeconds * float64(time.Second)).Round(time.Microsecond)
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s\n", plain.Text(m.Name), plain.Text(m.Route), plain.Text(m.Kind), plain.Line(state),
			m.Calls, m.Active, m.Messages, m.Bytes, countsText(m.Dropped), lag, countsText(m.Compared))
	}
	return t.Flush()
}

// countsText returns counts as a=1,b=2, sorted; - for none.
func countsText[K ~string](counts map[K]int64) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, fmt.Sprintf("%s=%d", plain.Text(string(k)), counts[k]))
	}
	if len(all) == 0 {
		return "-"
	}
	return strings.Join(all, ",")
}

func newMirrorDiffCommand() *cobra.Command {
	var flags adminFlags
	var out outputFlag
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "diff NAME",
		Short: "Print the last differences between the answers of a mirror and those that clients got",
		Example: `  framegate mirror diff shadow
  framegate mirror diff shadow -o json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usageErrorf("%s: arguments %q, want the NAME of one mirror", cmd.CommandPath(), args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.validate(); err != nil {
				return err
			}
			u, err := flags.path("/v1/mirrors")
			if err != nil {
				return err
			}
			var found []listedDifference
			if err := flags.getWithin(cmd.Context(), timeout, u.JoinPath(args[0], "differences").String(), &found); err != nil {
				return err
			}
			if out.format != outputTable {
				return out.write(cmd.OutOrStdout(), found)
			}
			return writeDifferences(cmd.OutOrStdout(), found)
		},
	}
	flags.register(cmd, defaultAdmin)
	cmd.Flags().DurationVar(&timeout, "timeout", defaultAdminTimeout, "how long to wait for the answer")
	out.register(cmd)
	return cmd
}

// listedDifference is a mirror.Difference: in the answer of the admin server, and in the command's output in JSON and YAML.
type listedDifference struct {
	Time   time.Time `json:"time" yaml:"time"`
	Route  string    `json:"route" yaml:"route"`
	Mirror string    `json:"mirror" yaml:"mirror"`
	Method string    `json:"method" yaml:"method"`
	Call   string    `json:"call" yaml:"call"`
	What   string    `json:"what" yaml:"what"`
	Name   string    `json:"name" yaml:"name,omitempty"`
	Index  int64     `json:"index" yaml:"index,omitempty"`
	Client any       `json:"client" yaml:"client"`
	Got    any       `json:"got" yaml:"got"`
}

func writeDifferences(w io.Writer, all []listedDifference) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TIME\tROUTE\tMETHOD\tCALL\tWHAT\tCLIENT GOT\tMIRROR SAID")
	for _, d := range all {
		what := d.What
		switch d.What {
		case mirror.DiffersTrailer:
			what += " " + d.Name
		case mirror.DiffersMessage:
			what += fmt.Sprintf(" #%d", d.Index)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.Time.Format(time.RFC3339), plain.Text(d.Route), plain.Text(d.Method), plain.Text(d.Call),
			plain.Line(what), inJSON(d.Client), inJSON(d.Got))
	}
	return t.Flush()
}

// inJSON returns v in JSON on one line, for people.
func inJSON(v any) string {
	text, _ := json.Marshal(v) // of what was decoded from JSON
	return plain.Line(string(text))
}
