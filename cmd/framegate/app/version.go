package app

import (
	"fmt"
	"runtime/debug"

	"github.com/cloudwego/kitex"
	"github.com/spf13/cobra"
)

// version is set by build.sh.
var version = "dev"

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of framegate, Kitex and Go",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			goVersion := "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				goVersion = info.GoVersion
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "framegate %s, kitex %s, %s\n", version, kitex.Version, goVersion)
			return err
		},
	}
}
