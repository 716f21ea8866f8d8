package app

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/plain"
	"github.com/framegate/framegate/resolver/spec"
)

// warnOf writes warnings about routes that were put to standard error: health checks that do not reach them, and bypasses.
func warnOf(ctx context.Context, cmd *cobra.Command, s *etcdstore.Routes, put []*spec.Route) {
	writeUnreachable(cmd.ErrOrStderr(), "framegate: warning: ", match.UnreachableHealth(put))
	warnBypasses(ctx, cmd, s, put)
}

// writeUnreachable writes a line with a prefix for each match entry found.
func writeUnreachable(w io.Writer, prefix string, found []match.Unreachable) {
	for _, u := range found {
		fmt.Fprintf(w, "%s%s\n", prefix, plain.Line(u.String()))
	}
}

// warnBypasses writes the bypasses that routes which were put are part of to standard error.
func warnBypasses(ctx context.Context, cmd *cobra.Command, s *etcdstore.Routes, put []*spec.Route) {
	found, err := s.Bypasses(ctx, put)
	if err != nil { // no failure of the command: the routes are stored
		fmt.Fprintf(cmd.ErrOrStderr(), "framegate: warning: not compared with other routes: %s\n", oneLine(err))
		return
	}
	writeBypasses(cmd.ErrOrStderr(), "framegate: warning: ", found)
}

// writeBypasses writes a line with a prefix for each bypass found.
func writeBypasses(w io.Writer, prefix string, found []match.Bypass) {
	for _, b := range found {
		fmt.Fprintf(w, "%s%s\n", prefix, plain.Line(b.String()))
	}
}
