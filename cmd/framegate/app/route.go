package app

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/framegate/framegate/resolver/etcdstore"
)

// newRouteCommand returns `framegate route`. Its subcommands work on the routes in etcd; every framegate that uses that etcd
// follows their changes at once.
func newRouteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "route",
		Short: "Put, get, edit, delete, explain and roll back routes",
		Long: `Put, get, edit and delete the routes in etcd, see what a change would do and what changes there were, undo one, and
find out which route a call gets. Every framegate that uses that etcd takes up changes at once.

A route is a YAML or JSON document:

  name: echo
  match: [{method: /echo.Echo/*}]     # or /echo.Echo/Say, /echo.*, *
  backends:
  - endpoints: [{address: "127.0.0.1:9001"}]

A file holds one route, or several under "routes:".`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cmd.Help(); err != nil {
				return err
			}
			return usageErrorf("%s: a command is missing, want put, get, list, edit, delete, validate, explain, history or rollback", cmd.CommandPath())
		},
	}
	cmd.AddCommand(
		newRoutePutCommand(), newRouteGetCommand(), newRouteListCommand(), newRouteEditCommand(), newRouteDeleteCommand(),
		newRouteValidateCommand(), newRouteExplainCommand(), newRouteHistoryCommand(), newRouteRollbackCommand(),
	)
	return cmd
}

// routeRun is one run of a command on the routes in etcd.
type routeRun struct {
	cmd   *cobra.Command
	store *etcdstore.Routes
	out   *outputFlag
}

// onRoute completes cmd as a command on one route in etcd, whose name is the argument. do does the work and prints the
// result in the format of -o, by default format. If do returns ErrNotFound, the user's error names the route and the etcd
// endpoints.
func onRoute(cmd *cobra.Command, format string, do func(ctx context.Context, run routeRun, name string) error) *cobra.Command {
	var etcd etcdFlags
	var out outputFlag
	cmd.Args = oneName
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withRoutes(cmd, &etcd, &out, func(ctx context.Context, s *etcdstore.Routes) error {
			err := do(ctx, routeRun{cmd: cmd, store: s, out: &out}, args[0])
			if errors.Is(err, etcdstore.ErrNotFound) {
				return etcd.notFound(args[0])
			}
			return err
		})
	}
	etcd.register(cmd)
	out.registerWith(cmd, format)
	return cmd
}

// oneName wants one argument, the name of a route. It does not validate the name, because a bad document in etcd may have
// one that is not valid for a route.
func oneName(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return usageErrorf("%s: arguments %q, want the NAME of one route", cmd.CommandPath(), args)
	}
	return nil
}
