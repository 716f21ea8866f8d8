package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/framegate/framegate/resolver"
)

// newRouteCommand returns `framegate route`. Its subcommands work on the routes in etcd, which every framegate that
// uses that etcd takes up at once.
func newRouteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "route",
		Short: "Put, get, list, delete and validate routes",
		Long: `Put, get, list and delete the routes in etcd, and validate routes in files. Every framegate that uses that etcd takes up
changes at once.

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
			return usageErrorf("%s: a command is missing, want put, get, list, delete or validate", cmd.CommandPath())
		},
	}
	cmd.AddCommand(newRoutePutCommand(), newRouteGetCommand(), newRouteListCommand(), newRouteDeleteCommand(), newRouteValidateCommand())
	return cmd
}

func newRoutePutCommand() *cobra.Command {
	var etcd etcdFlags
	var out outputFlag
	var file string
	cmd := &cobra.Command{
		Use:   "put -f FILE",
		Short: "Store the routes of a file in etcd, all of them or none",
		Example: `  framegate route put -f echo.yaml
  kubectl get configmap routes -o jsonpath='{.data.echo}' | framegate route put -f -`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			routes, err := readRoutes(cmd, file)
			if err != nil {
				return err
			}
			return withRoutes(cmd, &etcd, &out, func(ctx context.Context, s *resolver.RouteStore) error {
				results, err := s.PutAll(ctx, routes)
				if err != nil {
					return err
				}
				return out.writePut(cmd.OutOrStdout(), results)
			})
		},
	}
	addFileFlag(cmd, &file)
	etcd.register(cmd)
	out.register(cmd)
	return cmd
}

func newRouteGetCommand() *cobra.Command {
	var etcd etcdFlags
	var out outputFlag
	cmd := &cobra.Command{
		Use:     "get NAME",
		Short:   "Print a route",
		Example: "  framegate route get echo -o yaml > echo.yaml",
		Args:    oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withRoutes(cmd, &etcd, &out, func(ctx context.Context, s *resolver.RouteStore) error {
				r, err := s.Get(ctx, args[0])
				if errors.Is(err, resolver.ErrNotFound) {
					return etcd.notFound(args[0])
				}
				if err != nil {
					return err
				}
				return out.writeRoute(cmd.OutOrStdout(), r)
			})
		},
	}
	etcd.register(cmd)
	out.register(cmd)
	return cmd
}

func newRouteListCommand() *cobra.Command {
	var etcd etcdFlags
	var out outputFlag
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Print all routes; documents in etcd that are no routes are named on standard error",
		Example: `  framegate route list
  framegate route list -o yaml > routes.yaml`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withRoutes(cmd, &etcd, &out, func(ctx context.Context, s *resolver.RouteStore) error {
				routes, bad, err := s.List(ctx)
				if err != nil {
					return err
				}
				for _, b := range bad {
					fmt.Fprintf(cmd.ErrOrStderr(), "framegate: %s; put it again or delete it\n", oneLine(b))
				}
				return out.writeRoutes(cmd.OutOrStdout(), routes)
			})
		},
	}
	etcd.register(cmd)
	out.register(cmd)
	return cmd
}

func newRouteDeleteCommand() *cobra.Command {
	var etcd etcdFlags
	var out outputFlag
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Remove a route from etcd",
		Args:  oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withRoutes(cmd, &etcd, &out, func(ctx context.Context, s *resolver.RouteStore) error {
				found, err := s.Delete(ctx, args[0])
				if err != nil {
					return err
				}
				if !found {
					return etcd.notFound(args[0])
				}
				return out.writeDelete(cmd.OutOrStdout(), args[0])
			})
		},
	}
	etcd.register(cmd)
	out.register(cmd)
	return cmd
}

func newRouteValidateCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:     "validate -f FILE",
		Short:   "Say what is wrong with the routes of a file, without storing them",
		Example: "  framegate route validate -f routes.yaml",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			routes, err := readRoutes(cmd, file)
			if err != nil {
				return err
			}
			for _, r := range routes {
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "route %s: valid\n", r.Name); err != nil {
					return err
				}
			}
			return nil
		},
	}
	addFileFlag(cmd, &file)
	return cmd
}

// oneName wants the name of a route. Any name: a bad document may have one that no route can have.
func oneName(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return usageErrorf("%s: arguments %q, want the NAME of one route", cmd.CommandPath(), args)
	}
	return nil
}

func addFileFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "file", "f", "", "file with one route or a list under routes:, - for standard input (required)")
}

const maxDocumentBytes = 64 << 20

// readRoutes reads and validates the routes of the file that -f names. There is at least one.
func readRoutes(cmd *cobra.Command, file string) ([]*resolver.Route, error) {
	name, in := file, cmd.InOrStdin()
	switch file {
	case "":
		return nil, usageErrorf("%s: -f is missing, want a file or - for standard input", cmd.CommandPath())
	case "-":
		name = "standard input"
	default:
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	doc, err := io.ReadAll(io.LimitReader(in, maxDocumentBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(doc) > maxDocumentBytes {
		return nil, fmt.Errorf("%s: more than %d bytes", name, maxDocumentBytes)
	}
	routes, err := resolver.ParseDocument(name, doc)
	if err == nil && len(routes) == 0 {
		return nil, fmt.Errorf("%s: routes: empty, want at least one", name)
	}
	return routes, err
}
