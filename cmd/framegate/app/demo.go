package app

import (
	"context"
	"fmt"

	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/spf13/cobra"

	"github.com/framegate/framegate/cmd/framegate/demo"
)

func newDemoCommand() *cobra.Command {
	var stay bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show framegate at work, all in this process",
		Long: `Start an embedded etcd, two Kitex services and the proxy, put routes into etcd, and make calls of all four kinds
through the proxy with Kitex clients. Prints what each call did, and exits 1 if any went wrong.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			klog.SetLevel(klog.LevelFatal)
			var cfg demo.Config
			var wait func(*demo.Demo)
			if stay {
				cfg = demo.Config{Listen: "127.0.0.1:8888", Etcd: "127.0.0.1:2379"}
				wait = func(d *demo.Demo) { showStay(cmd.Context(), cmd, d) }
			}
			return demo.Run(cmd.Context(), cfg, cmd.OutOrStdout(), wait)
		},
	}
	cmd.Flags().BoolVar(&stay, "stay", false, "stay until Ctrl-C, on 127.0.0.1:8888 with etcd on 127.0.0.1:2379")
	return cmd
}

func showStay(ctx context.Context, cmd *cobra.Command, d *demo.Demo) {
	fmt.Fprintf(cmd.OutOrStdout(), `
still running; Ctrl-C ends it. In another terminal:
  framegate route list --etcd %[2]s
  framegate route get echo --etcd %[2]s
  framegate bench --target %[1]s --baseline %[3]s --duration 3s
`, d.Proxy, d.Etcd, d.Echo)
	<-ctx.Done()
}
