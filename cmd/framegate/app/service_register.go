package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/plain"
	"github.com/framegate/framegate/resolver/spec"
)

func newServiceRegisterCommand() *cobra.Command {
	var f registerFlags
	cmd := &cobra.Command{
		Use:   "register --name NAME --address ADDRESS [-- COMMAND ARGS...]",
		Short: "Keep an instance of a service registered in etcd for as long as this runs, or as COMMAND runs",
		Long: `Keep an instance of a service registered in etcd until SIGTERM or SIGINT, then deregister it. If this process dies, or etcd
hears nothing of it, the registration runs out after --ttl. While etcd is away it tries on; a registration that was lost
is made again.

With COMMAND, start that and keep the instance registered until it ends; then deregister and exit with COMMAND's code, or
128 and the number of the signal that killed it. Standard input, output and error are COMMAND's, except for log lines on
standard error. Signals are passed on to COMMAND; SIGTERM and SIGINT deregister at once, so that COMMAND gets no new
calls while it drains. etcd being away does not keep COMMAND from running. COMMAND does not get ` + etcdPasswordEnv + `
and ` + adminTokenEnv + ` in its environment.`,
		Example: `  framegate service register --name echo --address 127.0.0.1:9001
  framegate service register --name echo --address 127.0.0.1:9001 --weight 20 --tags cluster=a,zone=1 -- ./echo-server --port 9001`,
		Args: commandAfterDash,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.complete(); err != nil {
				return err
			}
			if _, err := f.etcd.client.ClientConfig(); err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(plain.Lines(cmd.ErrOrStderr()), nil))
			if len(args) > 0 {
				return runCommand(cmd, args, func(ctx context.Context) { f.keep(ctx, log, io.Discard) })
			}
			f.keep(cmd.Context(), log, cmd.OutOrStdout())
			return nil
		},
	}
	addInstanceFlags(cmd, &f.name, &f.instance.Address)
	cmd.Flags().IntVar(&f.instance.Weight, "weight", spec.DefaultInstanceWeight, "share of the service's calls, beside the weights of its other instances")
	cmd.Flags().StringToStringVar(&f.instance.Tags, "tags", nil, "tags that backends select by, k=v,k=v")
	cmd.Flags().DurationVar(&f.ttl, "ttl", 10*time.Second, "how long the instance stays registered after this process died, 1s to 24h in whole seconds")
	f.etcd.registerClient(cmd)
	f.etcd.registerPrefix(cmd)
	f.out.register(cmd)
	return cmd
}

// commandAfterDash accepts arguments only after a double dash: they are COMMAND.
func commandAfterDash(cmd *cobra.Command, args []string) error {
	switch dash := cmd.ArgsLenAtDash(); {
	case dash < 0 && len(args) > 0, dash > 0:
		return usageErrorf("%s: unexpected argument %q, want COMMAND after --", cmd.CommandPath(), args[0])
	case dash == 0 && (len(args) == 0 || args[0] == ""):
		return usageErrorf("%s: nothing after --, want COMMAND", cmd.CommandPath())
	}
	return nil
}

// registerFlags are the flags of `framegate service register`.
type registerFlags struct {
	etcd     serviceFlags
	out      outputFlag
	name     string
	instance spec.Instance
	ttl      time.Duration
}

// complete returns the mistakes in the flags.
func (f *registerFlags) complete() error {
	errs := []error{checkServiceName(f.name), f.out.validate(), f.etcd.complete()}
	if err := f.instance.Validate(); err != nil {
		errs = append(errs, usageErrorf("%v", err))
	}
	if err := etcdstore.ValidateInstanceTTL(f.ttl); err != nil {
		errs = append(errs, usageErrorf("--ttl: %v", err))
	}
	return errors.Join(errs...)
}

// keep keeps the instance registered until ctx ends. It prints a line on out when the instance is registered for the first
// time.
func (f *registerFlags) keep(ctx context.Context, log *slog.Logger, out io.Writer) {
	cli := f.client(ctx, log)
	if cli == nil {
		return
	}
	defer cli.Close()
	r := etcdstore.NewRegistration(etcdstore.NewServices(cli, f.etcd.prefix), f.name, f.instance, f.ttl, log)
	done := make(chan struct{})
	var teller sync.WaitGroup
	teller.Go(func() {
		select {
		case hb := <-r.Registered():
			change := instanceChange{Service: f.name, Address: f.instance.Address, Outcome: "registered", Revision: hb.Revision}
			if err := writeInstanceChange(out, &f.out, change); err != nil {
				log.Warn("cannot write to standard output", "error", err)
			}
		case <-done:
		}
	})
	r.Run(ctx)
	close(done)
	teller.Wait()
}

// clientRetry is the time between tries to make a client of etcd.
const clientRetry = time.Second

// client returns a client of etcd, or nil if ctx ends before it could be made: with a user and password that needs an answer
// of etcd, so client tries until there is one.
func (f *registerFlags) client(ctx context.Context, log *slog.Logger) *clientv3.Client {
	for logged := false; ; logged = true {
		cli, err := etcdclient.New(f.etcd.client)
		if err == nil {
			return cli
		}
		if !logged {
			log.Warn("cannot register in etcd; trying on", "service", f.name, "address", f.instance.Address, "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(clientRetry):
		}
	}
}
