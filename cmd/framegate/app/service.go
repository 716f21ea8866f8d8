package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/spec"
)

// newServiceCommand returns `framegate service`. Its subcommands work on the instances of services in etcd, which
// routes name with "service: NAME".
func newServiceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "service",
		Short: "Register, list, weigh and deregister instances of services",
		Long: `Register, list and deregister the instances of services in etcd. A backend of a route that says "service: NAME" sends its
calls to the instances of that service: every framegate that uses that etcd takes up a change within a second.

Instances are kept as Kitex's registry-etcd keeps them: a Kitex server that registers itself needs no command, and Kitex
clients find what is registered here.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cmd.Help(); err != nil {
				return err
			}
			return usageErrorf("%s: a command is missing, want register, list, weight or deregister", cmd.CommandPath())
		},
	}
	cmd.AddCommand(newServiceRegisterCommand(), newServiceListCommand(), newServiceWeightCommand(), newServiceDeregisterCommand())
	return cmd
}

// serviceFlags are the flags of a command that works on services in etcd.
type serviceFlags struct {
	etcdConnection
	prefix string
}

func (f *serviceFlags) register(cmd *cobra.Command) {
	f.etcdConnection.register(cmd)
	f.registerPrefix(cmd)
}

func (f *serviceFlags) registerPrefix(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.prefix, "service-prefix", etcdstore.DefaultServicePrefix, "what the keys of services in etcd start with")
}

func (f *serviceFlags) complete() error {
	var prefix error
	if err := etcdstore.ValidateServicePrefix(f.prefix); err != nil {
		prefix = usageErrorf("--service-prefix: %v", err)
	}
	return errors.Join(prefix, f.etcdConnection.complete())
}

// withServices is withEtcd for commands on the services in etcd.
func withServices(cmd *cobra.Command, f *serviceFlags, out *outputFlag, do func(context.Context, *etcdstore.Services) error) error {
	return withEtcd(cmd, f, out, func(ctx context.Context, cli *clientv3.Client) error {
		return do(ctx, etcdstore.NewServices(cli, f.prefix))
	})
}

func newServiceListCommand() *cobra.Command {
	var etcd serviceFlags
	var out outputFlag
	cmd := &cobra.Command{
		Use:   "list [NAME]",
		Short: "Print the instances of all services, or of one; documents in etcd that are no instances are named on standard error",
		Example: `  framegate service list
  framegate service list echo -o json`,
		Args: atMostOneService,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withServices(cmd, &etcd, &out, func(ctx context.Context, s *etcdstore.Services) error {
				services, bad, err := s.List(ctx)
				if err != nil {
					return err
				}
				if len(args) > 0 {
					services, bad = ofService(args[0], etcd.prefix, services, bad)
				}
				for _, b := range bad {
					fmt.Fprintf(cmd.ErrOrStderr(), "framegate: %s; remove it\n", oneLine(b))
				}
				if len(args) > 0 && len(services) == 0 {
					return fmt.Errorf("service %s: no instance in etcd at %s", args[0], etcd.endpoints())
				}
				if err := s.FillTTL(ctx, services); err != nil {
					return err
				}
				return writeServices(cmd.OutOrStdout(), &out, services)
			})
		},
	}
	etcd.register(cmd)
	out.register(cmd)
	return cmd
}

// ofService returns the instances and the bad documents of one service.
func ofService(name, prefix string, services []etcdstore.ServiceInstances, bad []*etcdstore.InstanceError) (of []etcdstore.ServiceInstances, badOf []*etcdstore.InstanceError) {
	for _, s := range services {
		if s.Service == name {
			of = append(of, s)
		}
	}
	for _, b := range bad {
		if service, _, _ := etcdstore.SplitServiceKey(prefix, b.Key); service == name {
			badOf = append(badOf, b)
		}
	}
	return of, badOf
}

func atMostOneService(cmd *cobra.Command, args []string) error {
	if len(args) > 1 || len(args) == 1 && spec.ValidServiceName(args[0]) != nil {
		return usageErrorf("%s: arguments %q, want the NAME of one service or nothing", cmd.CommandPath(), args)
	}
	return nil
}

func newServiceDeregisterCommand() *cobra.Command {
	var etcd serviceFlags
	var out outputFlag
	var name, address string
	cmd := &cobra.Command{
		Use:   "deregister --name NAME --address ADDRESS",
		Short: "Remove an instance from etcd, whoever registered it",
		Long: `Remove an instance from etcd, whoever registered it. What keeps it registered (framegate service register, say) registers
it again: stop that instead.`,
		Example: "  framegate service deregister --name echo --address 127.0.0.1:9001",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(checkServiceName(name), checkAddress(address)); err != nil {
				return err
			}
			return withServices(cmd, &etcd, &out, func(ctx context.Context, s *etcdstore.Services) error {
				found, err := s.Deregister(ctx, name, address)
				if err != nil {
					return err
				}
				if !found {
					return fmt.Errorf("service %s: no instance %s in etcd at %s", name, address, etcd.endpoints())
				}
				return writeInstanceChange(cmd.OutOrStdout(), &out, instanceChange{Service: name, Address: address, Outcome: "deregistered"})
			})
		},
	}
	addInstanceFlags(cmd, &name, &address)
	etcd.register(cmd)
	out.register(cmd)
	return cmd
}

func addInstanceFlags(cmd *cobra.Command, name, address *string) {
	cmd.Flags().StringVar(name, "name", "", "name of the service (required)")
	cmd.Flags().StringVar(address, "address", "", "where the instance takes calls, host:port or unix:/path (required)")
}

func checkServiceName(name string) error {
	if err := spec.ValidServiceName(name); err != nil {
		return usageErrorf("--name: %v", err)
	}
	return nil
}

// checkAddress accepts any address but the empty one, because a bad document in etcd may have one that is not valid for an
// instance.
func checkAddress(address string) error {
	if address == "" {
		return usageErrorf("--address: %q, want host:port or unix:/path", address)
	}
	return nil
}
