package app

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/plain"
	"github.com/framegate/framegate/resolver/spec"
)

func newRouteHistoryCommand() *cobra.Command {
	return onRoute(&cobra.Command{
		Use:   "history NAME",
		Short: "Print the versions of a route that etcd still knows, newest first",
		Long: `Print every version of a route that is in etcd's history, newest first: its revision, what was done, and what the route
was, or what was wrong with a document that somebody wrote by other means. It works for deleted routes too.

etcd forgets old revisions when it is compacted: an embedded one keeps 10,000, others as they are configured. If there
were earlier versions, the output says up to which revision they are forgotten.`,
		Example: `  framegate route history echo
  framegate route history echo -o yaml     # with the whole documents`,
	}, outputTable, func(ctx context.Context, run routeRun, name string) error {
		h, err := run.store.History(ctx, name)
		if err != nil {
			return err
		}
		return writeHistory(run.cmd.OutOrStdout(), run.out, h)
	})
}

func newRouteRollbackCommand() *cobra.Command {
	var to int64
	cmd := onRoute(&cobra.Command{
		Use:   "rollback NAME",
		Short: "Make a route what it was before its last change, or at a revision",
		Long: `Store again what a route was at a revision, or without --to its last good version that differs from what it is now; a
deleted route comes back. If somebody changes the route at the same time, nothing is stored. A rollback is a change like
any other: the next rollback undoes it.`,
		Example: `  framegate route rollback echo
  framegate route history echo
  framegate route rollback echo --to 12`,
	}, outputTable, func(ctx context.Context, run routeRun, name string) error {
		result, err := run.store.Rollback(ctx, name, to)
		if err != nil {
			return err
		}
		if stored, err := run.store.Get(ctx, name); err == nil {
			warnOf(ctx, run.cmd, run.store, []*spec.Route{stored.Route})
		}
		return writeRollback(run.cmd.OutOrStdout(), run.out, result)
	})
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if to <= 0 && cmd.Flags().Changed("to") {
			return usageErrorf("--to: %d, want a revision as in route history", to)
		}
		return nil
	}
	cmd.Flags().Int64Var(&to, "to", 0, "revision at which the route was as it shall be again")
	return cmd
}

// historyDoc is a history in the output of -o json and yaml.
type historyDoc struct {
	Name      string       `yaml:"name"`
	Versions  []versionDoc `yaml:"versions"`
	Compacted int64        `yaml:"compacted,omitempty"`
}

type versionDoc struct {
	Revision int64       `yaml:"revision"`
	Change   string      `yaml:"change"`
	Route    *spec.Route `yaml:"route,omitempty"`
	Error    string      `yaml:"error,omitempty"`
}

func writeHistory(w io.Writer, out *outputFlag, h *etcdstore.History) error {
	doc := historyDoc{Name: h.Name, Compacted: h.Compacted}
	for _, v := range h.Versions {
		version := versionDoc{Revision: v.Revision, Change: string(v.Change), Route: v.Route}
		if v.Err != nil {
			version.Error = oneLine(v.Err)
		}
		doc.Versions = append(doc.Versions, version)
	}
	if out.format != outputTable {
		return out.write(w, doc)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "REVISION\tCHANGE\tROUTE")
	for _, v := range doc.Versions {
		what := ""
		switch {
		case v.Error != "":
			what = "error: " + v.Error
		case v.Route != nil:
			what = plain.Line(v.Route.Summary())
		}
		fmt.Fprintf(t, "%d\t%s\t%s\n", v.Revision, v.Change, what)
	}
	if err := t.Flush(); err != nil || h.Compacted == 0 {
		return err
	}
	_, err := fmt.Fprintf(w, "Versions that were replaced up to revision %d are forgotten: etcd was compacted.\n", h.Compacted)
	return err
}

func writeRollback(w io.Writer, out *outputFlag, r etcdstore.RollbackResult) error {
	if out.format != outputTable {
		return out.write(w, struct {
			Name     string `yaml:"name"`
			Outcome  string `yaml:"outcome"`
			Revision int64  `yaml:"revision"`
			To       int64  `yaml:"to"`
		}{r.Name, string(r.Outcome), r.Revision, r.To})
	}
	_, err := fmt.Fprintf(w, "route %s: %s, as at revision %d%s\n", plain.Text(r.Name), r.Outcome, r.To, inRevision(r.Revision))
	return err
}
