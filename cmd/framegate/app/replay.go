package app

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/framegate/framegate/cmd/framegate/replay"
	"github.com/framegate/framegate/resolver/plain"
	"github.com/framegate/framegate/resolver/spec"
)

func newReplayCommand() *cobra.Command {
	var cfg replay.Config
	var out outputFlag
	var filter string
	var list bool
	cmd := &cobra.Command{
		Use:   "replay FILE...",
		Short: "Make recorded calls again and compare the answers",
		Long: `Make the calls again that a mirror with record has written to files, with their timing, and print how the answers differ
from the recorded ones, and a summary with the calls by recorded and new code. A FILE is a recording, or a directory of
them; give all files of a mirror together, because the entries of one call may be in several. Metadata is sent as it was
recorded, without redacted values. Calls of which messages were not recorded are made, and not compared.

Exits with 1 if answers differ. With --list, the recorded calls are printed instead.`,
		Example: `  framegate replay tapes/ --list
  framegate replay tapes/ --target 127.0.0.1:9001 --speed 2 --filter '/shop.Shop/*'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || slices.Contains(args, "") {
				return usageErrorf("%s: arguments %q, want at least one FILE", cmd.CommandPath(), args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.validate(); err != nil {
				return err
			}
			cfg.Paths = args
			if filter != "" {
				p, err := spec.ParsePattern(filter)
				if err != nil {
					return usageErrorf("--filter: %v", err)
				}
				cfg.Filter = &p
			}
			if list {
				return listRecorded(cmd, &out, cfg)
			}
			return replayRecorded(cmd, &out, cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Target, "target", "", "address to call: host:port or unix:/path")
	f.Float64Var(&cfg.Speed, "speed", 1, "how much faster than it was; 0 means without waiting")
	f.StringVar(&filter, "filter", "", "only methods that this pattern matches, such as /pkg.Service/*")
	f.IntVar(&cfg.MaxConcurrent, "max-concurrent", 1000, "calls under way at once; more wait")
	f.DurationVar(&cfg.Timeout, "timeout", 10*time.Second, "how long a call may go on after its recorded end")
	f.BoolVar(&cfg.Trailers, "trailers", false, "compare trailers, too")
	f.BoolVar(&list, "list", false, "print the recorded calls instead")
	out.register(cmd)
	return cmd
}

func listRecorded(cmd *cobra.Command, out *outputFlag, cfg replay.Config) error {
	calls := []replay.Recorded{}
	torn, err := replay.List(cfg.Paths, cfg.Filter, func(c replay.Recorded) error {
		calls = append(calls, c)
		return nil
	})
	if err != nil {
		return err
	}
	warnTorn(cmd.ErrOrStderr(), torn)
	if out.format != outputTable {
		return out.write(cmd.OutOrStdout(), struct {
			Calls []replay.Recorded `yaml:"calls"`
		}{calls})
	}
	t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TIME\tMETHOD\tCODE\tREQUESTS\tRESPONSES\tBYTES\tDURATION\tPEER\tCALL")
	for _, c := range calls {
		code := c.Code
		if code == "" {
			code = "unfinished"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\n", c.Time.Format(time.RFC3339Nano), plain.Text(c.Method), code, c.Requests, c.Responses, c.Bytes,
			time.Duration(c.Seconds*float64(time.Second)).Round(time.Microsecond), plain.Text(c.Peer), plain.Text(c.Call))
	}
	return t.Flush()
}

func warnTorn(w io.Writer, torn []replay.Torn) {
	for _, t := range torn {
		fmt.Fprintf(w, "framegate: %s ends within an entry: its writer was killed; all before that was read\n", plain.Line(t.File))
	}
}

func replayRecorded(cmd *cobra.Command, out *outputFlag, cfg replay.Config) error {
	switch err := spec.ValidateAddress(cfg.Target); {
	case err != nil || strings.HasPrefix(cfg.Target, spec.DNSPrefix):
		return usageErrorf("--target: %q, want host:port or unix:/path", plain.URL(cfg.Target))
	case !(cfg.Speed >= 0 && cfg.Speed <= 1e6):
		return usageErrorf("--speed: %v, want 0 to 1000000", cfg.Speed)
	case cfg.MaxConcurrent < 1 || cfg.MaxConcurrent > 100_000:
		return usageErrorf("--max-concurrent: %d, want 1 to 100000", cfg.MaxConcurrent)
	case cfg.Timeout <= 0:
		return usageErrorf("--timeout: %s, want more than 0s", cfg.Timeout)
	}
	w := cmd.OutOrStdout()
	if out.format == outputTable {
		cfg.Tell = func(d replay.Difference) {
			fmt.Fprintf(w, "%s %s: %s: recorded %s, now %s\n", plain.Text(d.Call), plain.Text(d.Method), plain.Line(d.What), plain.Line(d.Recorded), plain.Line(d.Now))
		}
	}
	report, err := replay.Run(cmd.Context(), cfg)
	if err != nil {
		return err
	}
	if out.format != outputTable {
		err = out.write(w, report)
	} else {
		err = writeReport(w, report)
	}
	if err != nil {
		return err
	}
	if report.Different > 0 {
		return &exitError{code: exitFailed}
	}
	return nil
}

func writeReport(w io.Writer, r *replay.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "calls\t%d\n", r.Calls)
	for _, codes := range slices.Sorted(maps.Keys(r.Codes)) {
		fmt.Fprintf(t, "  %s\t%d\n", codes, r.Codes[codes])
	}
	fmt.Fprintf(t, "same\t%d\n", r.Same)
	fmt.Fprintf(t, "different\t%d\n", r.Different)
	if r.Lossy > 0 {
		fmt.Fprintf(t, "not compared: messages were not recorded\t%d\n", r.Lossy)
	}
	if r.Unfinished > 0 {
		fmt.Fprintf(t, "unfinished in the recording\t%d\n", r.Unfinished)
	}
	for _, file := range r.Torn {
		fmt.Fprintf(t, "ends within an entry\t%s\n", plain.Line(file))
	}
	return t.Flush()
}
