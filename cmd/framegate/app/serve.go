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
		Long: `Run the proxy until SIGTERM, SIGINT or POST /v1/drain, then drain. A second signal ends it at once.

Flags win over the configuration file, and the file over the defaults. Without either, serve listens on 127.0.0.1:8888
and keeps routes in an embedded etcd on 127.0.0.1:2379 with its data in ./framegate-data.`,
		Example: `  framegate serve
  framegate serve --config framegate.yaml
  framegate serve --etcd none --routes routes.yaml
  framegate serve --etcd etcd-1:2379,etcd-2:2379 --listen :8888`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.config(cmd)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, cmd.ErrOrStderr())
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

// config puts defaults, file and flags together and validates the result.
func (f *serveFlags) config(cmd *cobra.Command) (*conf.Config, error) {
	cfg := conf.Default()
	if cmd.Flags().Changed("config") {
		var err error
		if cfg, err = conf.Load(f.file); err != nil {
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

func serve(ctx context.Context, cfg *conf.Config, stderr io.Writer) error {
	ignoreBrokenPipes()
	log, level := newLogger(cfg.Log, stderr)
	gateway.RouteKitexLog(log, level <= slog.LevelDebug)
	tracing.LogErrors(log)
	g, err := gateway.Start(ctx, cfg, log)
	if err != nil {
		return err
	}
	floor, release := context.WithCancel(context.WithoutCancel(ctx))
	var held sync.WaitGroup
	held.Go(func() { holdHeapFloor(floor, g.Documents) })
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

func newLogger(c conf.Log, w io.Writer) (*slog.Logger, slog.Level) {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // valid since Validate
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts)), level
	}
	return slog.New(slog.NewTextHandler(w, opts)), level
}
