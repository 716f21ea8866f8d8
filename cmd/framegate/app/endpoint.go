package app

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

// newEndpointCommand returns `framegate endpoint`. Its subcommands ask a running framegate.
func newEndpointCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "endpoint",
		Short: "List the endpoints of a running framegate",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cmd.Help(); err != nil {
				return err
			}
			return usageErrorf("%s: a command is missing, want list", cmd.CommandPath())
		},
	}
	cmd.AddCommand(newEndpointListCommand())
	return cmd
}

// defaultAdminTimeout is the default of --timeout: how long a command waits for the answer of an admin server.
const defaultAdminTimeout = 5 * time.Second

func newEndpointListCommand() *cobra.Command {
	var admin adminFlags
	var out outputFlag
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "list [NAME]",
		Short: "Print how each endpoint does, of all routes or of one route or service",
		Long: `Print the endpoints that a running framegate balances calls among, by the service whose instances they are or the route
that lists them, and how each does:

  ok              it gets calls; "on trial" says few, until it has answered one after an ejection
  cannot connect  it is tried again now and then; calls pass it by meanwhile
  unhealthy: WHY  its health checks fail
  ejected until   its calls failed
  off             its weight is 0

"used in panic" says that too few endpoints are ok, so that calls go to this one all the same. ACTIVE are attempts of
calls under way; CONNECTIONS are open to the address, for whatever route.`,
		Example: `  framegate endpoint list
  framegate endpoint list echo --admin http://127.0.0.1:8889 -o json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && args[0] == "" {
				return usageErrorf("%s: arguments %q, want the NAME of one route or service or nothing", cmd.CommandPath(), args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.validate(); err != nil {
				return err
			}
			u, err := admin.path("/v1/endpoints")
			if err != nil {
				return err
			}
			var answer struct {
				Groups *[]listedGroup `json:"groups"`
			}
			if err := admin.getWithin(cmd.Context(), timeout, u.String(), &answer); err != nil {
				return err
			}
			if answer.Groups == nil {
				return fmt.Errorf("admin server at %s: its answer has no groups, want a framegate that is not older than this command", admin.url)
			}
			groups := *answer.Groups
			if len(args) > 0 {
				groups = slices.DeleteFunc(groups, func(g listedGroup) bool { return !g.isOf(args[0]) })
				if len(groups) == 0 {
					return fmt.Errorf("admin server at %s: no route %s is in force there, and none that uses a service of that name", admin.url, args[0])
				}
			}
			return writeEndpoints(cmd.OutOrStdout(), &out, groups, time.Now())
		},
	}
	admin.register(cmd, defaultAdmin)
	cmd.Flags().DurationVar(&timeout, "timeout", defaultAdminTimeout, "how long to wait for the answer")
	out.register(cmd)
	return cmd
}

// isOf reports whether name is the group's service, or one of the routes that use the group.
func (g *listedGroup) isOf(name string) bool {
	return g.Service == name || slices.Contains(g.Routes, name)
}
