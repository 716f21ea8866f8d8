package app

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/spec"
)

func newServiceWeightCommand() *cobra.Command {
	var etcd serviceFlags
	var out outputFlag
	cmd := &cobra.Command{
		Use:   "weight NAME ADDRESS WEIGHT",
		Short: "Change the weight of a registered instance, which stays whose it is",
		Long: fmt.Sprintf(`Change the weight of a registered instance, 1 to %d: its share of the service's calls, beside the weights of the other
instances. The instance stays on the lease that it is on, and what keeps it registered (framegate service register,
heartbeats of the admin API, a Kitex server) keeps the new weight, until it registers anew.`, spec.MaxWeight),
		Example: "  framegate service weight echo 127.0.0.1:9001 5",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 3 {
				return usageErrorf("%s: arguments %q, want NAME ADDRESS WEIGHT", cmd.CommandPath(), args)
			}
			if err := spec.ValidServiceName(args[0]); err != nil {
				return usageErrorf("NAME: %v", err)
			}
			if args[1] == "" {
				return usageErrorf("ADDRESS: %q, want host:port or unix:/path", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			name, address := args[0], args[1]
			weight, err := strconv.Atoi(args[2])
			if err != nil || weight < 1 || weight > spec.MaxWeight {
				return usageErrorf("WEIGHT: %q, want 1 to %d", args[2], spec.MaxWeight)
			}
			return withServices(cmd, &etcd, &out, func(ctx context.Context, s *etcdstore.Services) error {
				set, err := s.SetWeight(ctx, name, address, weight)
				if errors.Is(err, etcdstore.ErrNotFound) {
					return fmt.Errorf("service %s: no instance %s in etcd at %s", name, address, etcd.endpoints())
				}
				if err != nil {
					return err
				}
				return writeInstanceChange(cmd.OutOrStdout(), &out, instanceChange{
					Service: name, Address: set.Address, Outcome: string(set.Outcome), Was: set.Was, Weight: weight, Revision: set.Revision,
				})
			})
		},
	}
	etcd.register(cmd)
	out.register(cmd)
	return cmd
}
