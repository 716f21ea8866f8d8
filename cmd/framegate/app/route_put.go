package app

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/match"
)

func newRoutePutCommand() *cobra.Command {
	var etcd etcdFlags
	var out outputFlag
	var revision revisionFlag
	var file string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "put -f FILE",
		Short: "Store the routes of a file in etcd, all of them or none",
		Long: `Store the routes of a file in etcd, all of them or none. Nothing is written unless every route is valid.

It warns of routes by which calls reach the endpoints of another route past its rules (resolver/README.md, "Safe changes"), and of
routes for health checks, which listeners answer themselves unless their configuration says health: routed.

With --if-revision, nothing is written either if somebody changed a route since: its revision is in "route list", and 0
means that no such route may exist.

With --dry-run, nothing is written. It prints what would become of each route, and for each method concerned the routes
that take its calls now -> then, strongest first; a route that no call would ever reach is pointed out.`,
		Example: `  framegate route put -f echo.yaml
  framegate route put -f echo.yaml --dry-run
  framegate route put -f echo.yaml --if-revision 12
  kubectl get configmap routes -o jsonpath='{.data.echo}' | framegate route put -f -`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conditions, err := revision.conditions(cmd)
			if err != nil {
				return err
			}
			routes, err := readRoutes(cmd, file)
			if err != nil {
				return err
			}
			return withRoutes(cmd, &etcd, &out, func(ctx context.Context, s *etcdstore.Routes) error {
				if dryRun {
					return planChange(ctx, cmd, s, &out, match.Change{Put: routes}, conditions...)
				}
				results, err := s.PutAll(ctx, routes, conditions...)
				if err != nil {
					return err
				}
				warnOf(ctx, cmd, s, routes)
				return writePut(cmd.OutOrStdout(), &out, results)
			})
		},
	}
	addFileFlag(cmd, &file)
	revision.register(cmd, "store nothing unless every route of the file is at this revision; 0: does not exist")
	addDryRunFlag(cmd, &dryRun)
	etcd.register(cmd)
	out.register(cmd)
	return cmd
}

// revisionFlag is --if-revision.
type revisionFlag struct{ revision int64 }

const revisionFlagName = "if-revision"

func (r *revisionFlag) register(cmd *cobra.Command, usage string) {
	cmd.Flags().Int64Var(&r.revision, revisionFlagName, 0, usage)
}

// conditions returns the condition that the flag states, if it was given.
func (r *revisionFlag) conditions(cmd *cobra.Command) ([]etcdstore.WriteOption, error) {
	if !cmd.Flags().Changed(revisionFlagName) {
		return nil, nil
	}
	if r.revision < 0 {
		return nil, usageErrorf("--%s: %d, want a revision as in route list", revisionFlagName, r.revision)
	}
	return []etcdstore.WriteOption{etcdstore.IfRevision(r.revision)}, nil
}
