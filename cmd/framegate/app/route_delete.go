package app

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/match"
)

func newRouteDeleteCommand() *cobra.Command {
	var revision revisionFlag
	var conditions []etcdstore.WriteOption
	var dryRun bool
	cmd := onRoute(&cobra.Command{
		Use:   "delete NAME",
		Short: "Remove a route from etcd",
		Example: `  framegate route delete echo
  framegate route delete echo --dry-run
  framegate route rollback echo        # brings it back`,
	}, outputTable, func(ctx context.Context, run routeRun, name string) error {
		if dryRun {
			return planChange(ctx, run.cmd, run.store, run.out, match.Change{Delete: []string{name}}, conditions...)
		}
		found, err := run.store.Delete(ctx, name, conditions...)
		if err != nil {
			return err
		}
		if !found {
			return etcdstore.ErrNotFound
		}
		return writeDelete(run.cmd.OutOrStdout(), run.out, name)
	})
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		conditions, err = revision.conditions(cmd)
		return err
	}
	revision.register(cmd, "delete nothing unless the route is at this revision")
	addDryRunFlag(cmd, &dryRun)
	return cmd
}
