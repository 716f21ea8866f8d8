package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/filesource"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/plain"
	"github.com/framegate/framegate/resolver/spec"
)

func newRouteValidateCommand() *cobra.Command {
	var etcd etcdFlags
	var out outputFlag
	var file string
	cmd := &cobra.Command{
		Use:   "validate -f FILE",
		Short: "Say what is wrong with the routes of a file, without storing them",
		Long: `Say what is wrong with the routes of a file, without storing them. It needs no etcd: rules are checked against a schema
that is in files; of rules for a schema in etcd or of endpoints, only what can be said without it. With --etcd, it also
checks those for a schema in that etcd, and prints what a put of the file would change, as "route put --dry-run" does.`,
		Example: `  framegate route validate -f routes.yaml
  framegate route validate -f routes.yaml --etcd 127.0.0.1:2379`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			routes, err := readRoutes(cmd, file)
			if err != nil {
				return err
			}
			if etcdNamed(cmd) {
				return withRoutes(cmd, &etcd, &out, func(ctx context.Context, s *etcdstore.Routes) error {
					return planChange(ctx, cmd, s, &out, match.Change{Put: routes})
				})
			}
			if err := out.validate(); err != nil {
				return err
			}
			if err := checkRules(cmd.Context(), file, routes); err != nil {
				return err
			}
			writeUnreachable(cmd.ErrOrStderr(), "framegate: warning: ", match.UnreachableHealth(routes))
			writeBypasses(cmd.ErrOrStderr(), "framegate: warning: ", match.Bypasses(nil, routes))
			valid := make([]routeChange, len(routes))
			for i, r := range routes {
				valid[i] = routeChange{Name: r.Name, Outcome: "valid"}
			}
			return writeChanges(cmd.OutOrStdout(), &out, valid)
		},
	}
	addFileFlag(cmd, &file)
	etcd.register(cmd)
	out.register(cmd)
	return cmd
}

// checkRules returns the mistakes in the rules of a file's routes.
func checkRules(ctx context.Context, file string, routes []*spec.Route) error {
	var errs []error
	for _, r := range routes {
		s, err := filesource.LoadSchema(ctx, filepath.Dir(file), r)
		if err == nil {
			_, err = structmode.CompileRoute(r, s)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("route %s: %w", r.Name, err))
		}
	}
	return errors.Join(errs...)
}

// etcdNamed reports whether the user gave a flag that names an etcd or the prefix in it.
func etcdNamed(cmd *cobra.Command) (named bool) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		named = named || f.Name == "prefix" || f.Name == "etcd" || strings.HasPrefix(f.Name, "etcd-")
	})
	return named
}

func addDryRunFlag(cmd *cobra.Command, dryRun *bool) {
	cmd.Flags().BoolVar(dryRun, "dry-run", false, "write nothing; print what would change for which methods")
}

// planChange prints what a change would do. It returns etcdstore.ErrNotFound if the change deletes a route that does not
// exist.
func planChange(ctx context.Context, cmd *cobra.Command, s *etcdstore.Routes, out *outputFlag, change match.Change, conditions ...etcdstore.WriteOption) error {
	plan, err := s.Plan(ctx, change, conditions...)
	if err != nil {
		return err
	}
	for _, r := range plan.Routes {
		if r.Outcome == match.NotFound {
			return etcdstore.ErrNotFound
		}
	}
	return writePlan(cmd.OutOrStdout(), out, plan)
}

func writePlan(w io.Writer, out *outputFlag, plan *match.Plan) error {
	if out.format != outputTable {
		return out.write(w, plan)
	}
	var b strings.Builder
	for _, r := range plan.Routes {
		what := "would be " + string(r.Outcome)
		if r.Outcome == match.Unchanged {
			what = string(r.Outcome)
		}
		if len(r.Keys) > 0 {
			what += ": " + strings.Join(r.Keys, ", ")
		}
		fmt.Fprintf(&b, "route %s: %s%s\n", r.Name, what, inRevision(r.Revision))
	}
	for _, c := range plan.Calls {
		if reflect.DeepEqual(c.Now, c.Then) {
			fmt.Fprintf(&b, "%s: %s, as now\n", c.Method, entriesLine(c.Then))
			continue
		}
		fmt.Fprintf(&b, "%s: %s -> %s\n", c.Method, entriesLine(c.Now), entriesLine(c.Then))
	}
	for _, u := range plan.Unreached {
		fmt.Fprintf(&b, "warning: route %s would get no call by %s: %s is stronger and takes them all\n", u.Route, u.Match, u.By)
	}
	writeUnreachable(&b, "warning: ", plan.UnreachableHealth)
	writeBypasses(&b, "warning: ", plan.Bypasses)
	_, err := io.WriteString(plain.Lines(w), b.String())
	return err
}

func entriesLine(entries []match.EntrySummary) string {
	if len(entries) == 0 {
		return "no route"
	}
	parts := make([]string, len(entries))
	for i, t := range entries {
		parts[i] = t.String()
	}
	return strings.Join(parts, ", ")
}
