package app

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/framegate/framegate/resolver/etcdstore"
)

func newRouteGetCommand() *cobra.Command {
	return onRoute(&cobra.Command{
		Use:     "get NAME",
		Short:   "Print a route: its document, which can be put again, or with -o table a line",
		Example: "  framegate route get echo > echo.yaml\n  framegate route get echo -o table",
	}, outputYAML, func(ctx context.Context, run routeRun, name string) error {
		r, err := run.store.Get(ctx, name)
		if err != nil {
			return err
		}
		return writeRoute(run.cmd.OutOrStdout(), run.out, r)
	})
}

func newRouteListCommand() *cobra.Command {
	var etcd etcdFlags
	var out outputFlag
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Print all routes, and what is wrong with those that are bad",
		Long: `Print all routes. A document that somebody wrote to etcd by other means and that is no valid route is a row with its
error; every framegate refuses it, and the last good version of that route stays in force. As JSON or YAML the list is a
document that can be put: bad routes are not in it, and are named on standard error.`,
		Example: `  framegate route list
  framegate route list -o yaml > routes.yaml`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withRoutes(cmd, &etcd, &out, func(ctx context.Context, s *etcdstore.Routes) error {
				routes, bad, err := s.List(ctx)
				if err != nil {
					return err
				}
				if out.format == outputTable {
					return writeTable(cmd.OutOrStdout(), routes, bad)
				}
				for _, b := range bad {
					fmt.Fprintf(cmd.ErrOrStderr(), "framegate: %s; put it again or delete it\n", oneLine(b))
				}
				return writeRoutes(cmd.OutOrStdout(), &out, routes)
			})
		},
	}
	etcd.register(cmd)
	out.register(cmd)
	return cmd
}
