package app

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/framegate/framegate/cmd/framegate/gateway"
	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/handler/tracing"
)

func newServeCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy",
		Long: `Run the proxy until SIGTERM, SIGINT or POST /v1/drain, then drain. A second signal ends it at once. SIGHUP opens log
files again and reads the configuration again; SIGUSR1 only opens log files again.

Flags win over the configuration file, and the file over the defaults. Without either, serve listens on 127.0.0.1:8888
and keeps routes in an embedded etcd on 127.0.0.1:2379 with its data in ./framegate-data.`,
		Example: `  framegate serve
  framegate serve --config framegate.yaml
  framegate serve --etcd none --routes routes.yaml
  framegate serve --etcd etcd-1:2379,etcd-2:2379 --listen :8888`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), func(load loadFunc) (*conf.Config, error) { return f.config(cmd, load) }, cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&f.file, "config", "", "configuration file (see conf/framegate.yaml)")
	cmd.Flags().StringVar(&f.listen, "listen", "", "address of the first listener, host:port")
	cmd.Flags().StringVar(&f.admin, "admin", "", "address of the admin HTTP server, host:port or none")
	cmd.Flags().StringVar(&f.etcd, "etcd", "", "etcd endpoints, separated by commas; embedded or none")
	cmd.Flags().StringVar(&f.routes, "routes", "", "file of routes, reloaded when it changes")
	return cmd
}

type serveFlags struct {
	file, listen, admin, etcd, routes string
}

// loadFunc reads a configuration file: conf.Load or conf.LoadAgain.
type loadFunc = func(path string) (*conf.Config, error)

// config returns the configuration: the defaults, overridden by the file and then by the flags, and validated.
func (f *serveFlags) config(cmd *cobra.Command, load loadFunc) (*conf.Config, error) {
	cfg := conf.Default()
	if cmd.Flags().Changed("config") {
		var err error
		if cfg, err = load(f.file); err != nil {
			return nil, usageErrorf("%v", err)
		}
	}
	if cmd.Flags().Changed("listen") && len(cfg.Listeners) > 0 {
		cfg.Listeners[0].Address = f.listen
	}
	if cmd.Flags().Changed("admin") {
		cfg.Admin.Address = f.admin
	}
	if cmd.Flags().Changed("etcd") {
		cfg.Etcd.Endpoints = strings.Split(f.etcd, ",")
	}
	if cmd.Flags().Changed("routes") {
		cfg.Routes.File = f.routes
	}
	if cfg.Admin.Token == "" {
		cfg.Admin.Token = os.Getenv(adminTokenEnv)
	}
	if err := cfg.Validate(); err != nil {
		return nil, usageErrorf("%v", err)
	}
	return cfg, nil
}

// serve runs a gateway until ctx ends, the gateway is asked to drain or a listener fails. It gets the configuration from
// read, at the start and for each SIGHUP.
func serve(ctx context.Context, read func(loadFunc) (*conf.Config, error), stderr io.Writer) error {
	ignoreBrokenPipes()
	var signals reloadSignals
	defer signals.notify()()
	cfg, err := read(conf.Load)
	if err != nil {
		return err
	}
	logs := newServerLog(cfg.Log, stderr)
	log := slog.New(logs)
	gateway.RouteKitexLog(log, log.Enabled(ctx, slog.LevelDebug))
	tracing.LogErrors(log)
	g, err := gateway.Start(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer paceCollector()()
	run, release := context.WithCancel(context.WithoutCancel(ctx))
	var held sync.WaitGroup
	held.Go(func() { signals.obey(run, reloader{read: read, gateway: g, logs: logs, log: log}) })
	defer held.Wait()
	defer release()
	select {
	case <-ctx.Done():
	case <-g.Draining():
	case err = <-g.Failed():
	}
	g.Shutdown(context.WithoutCancel(ctx))
	log.Info("stopped")
	return err
}
