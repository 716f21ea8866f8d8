package app

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/filesource"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/plain"
	"github.com/framegate/framegate/resolver/spec"
)

// defaultListener is the name of a listener without a name in the configuration.
const defaultListener = "main"

func newRouteExplainCommand() *cobra.Command {
	var etcd etcdFlags
	var out outputFlag
	var call callFlags
	var admin adminFlags
	var file string
	cmd := &cobra.Command{
		Use:   "explain /PKG.SERVICE/METHOD",
		Short: "Print which route a call gets, and why not a stronger one",
		Long: `Print which route a call gets, its match and its backends, and why each stronger route that matches the method does not
take it. The routes are those in etcd; with -f, those of a file; with --admin, those that a running framegate has in
force, from whatever source, and the endpoint that it would choose.

Exit code 1 says that no route takes the call: its client gets UNIMPLEMENTED.`,
		Example: `  framegate route explain /echo.Echo/Say
  framegate route explain /echo.Echo/Say -H x-tenant=gold --authority echo.example.com
  framegate route explain /echo.Echo/Say -f routes.yaml
  framegate route explain /echo.Echo/Say --admin http://127.0.0.1:8889`,
		Args: oneMethod,
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := call.request(args[0])
			if err != nil {
				return err
			}
			if (file != "" && admin.url != "") || etcdNamed(cmd) && (file != "" || admin.url != "") {
				return usageErrorf("%s: want one of -f, --admin and --etcd", cmd.CommandPath())
			}
			if err := out.validate(); err != nil {
				return err
			}
			var x explanation
			switch {
			case file != "":
				routes, err := readRoutes(cmd, file)
				if err != nil {
					return err
				}
				x.Explanation = explain(routes, req)
			case admin.url != "":
				if x, err = admin.explain(cmd.Context(), etcd.timeout, req); err != nil {
					return err
				}
			default:
				err := withRoutes(cmd, &etcd, &out, func(ctx context.Context, s *etcdstore.Routes) error {
					routes, err := goodRoutes(ctx, cmd, s)
					x.Explanation = explain(routes, req)
					return err
				})
				if err != nil {
					return err
				}
			}
			if err := writeExplanation(cmd.OutOrStdout(), &out, x); err != nil {
				return err
			}
			if x.Chosen == nil && x.Builtin == "" {
				return fmt.Errorf("no route takes %s on listener %s", req.Method, req.Listener)
			}
			return nil
		},
	}
	call.register(cmd)
	admin.register(cmd, "")
	cmd.Flags().StringVarP(&file, "file", "f", "", "explain the routes of this file, - for standard input, instead of those in etcd")
	etcd.register(cmd)
	out.register(cmd)
	return cmd
}

// oneMethod wants one argument, the full name of a method.
func oneMethod(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		if p, err := spec.ParsePattern(args[0]); err == nil && p.Kind == spec.KindExact {
			return nil
		}
	}
	return usageErrorf("%s: arguments %q, want one method such as /pkg.Service/Method", cmd.CommandPath(), args)
}

// callFlags describe what else of a call, beside its method, may decide its route.
type callFlags struct {
	listener  string
	authority string
	headers   []string // name=value
}

func (f *callFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&f.headers, "header", "H", nil, "header of the call, `name=value`; may be given more than once")
	cmd.Flags().StringVar(&f.authority, "authority", "", ":authority of the call: the host that the client dials, maybe with a port")
	cmd.Flags().StringVar(&f.listener, "listener", defaultListener, "name of the listener that the call comes to; one without a name is "+defaultListener)
}

// request returns the call that the flags describe, or a usage error.
func (f *callFlags) request(method string) (spec.Request, error) {
	header := spec.Header{}
	req := spec.Request{Listener: f.listener, Method: method, Authority: f.authority, Header: header}
	if !spec.ValidName(f.listener) {
		return req, usageErrorf("--listener: %q, want the name of a listener", f.listener)
	}
	for _, h := range f.headers {
		name, value, ok := strings.Cut(h, "=")
		name = strings.ToLower(name)
		if !ok || name == "" || strings.ContainsAny(name, ": \t\r\n") {
			return req, usageErrorf("-H: %q, want name=value", h)
		}
		header[name] = append(header[name], value)
	}
	return req, nil
}

// explain asks a running framegate which route a call gets, and waits up to timeout for the answer.
func (f *adminFlags) explain(ctx context.Context, timeout time.Duration, req spec.Request) (x explanation, err error) {
	u, err := f.path("/v1/explain")
	if err != nil {
		return x, err
	}
	query := url.Values{"method": {req.Method}, "listener": {req.Listener}}
	if req.Authority != "" {
		query.Set("authority", req.Authority)
	}
	header, _ := req.Header.(spec.Header) // as callFlags.request makes it
	for name, values := range header {
		for _, v := range values {
			query.Add("header", name+":"+v)
		}
	}
	u.RawQuery = query.Encode()
	return x, f.getWithin(ctx, timeout, u.String(), &x)
}

// explanation is the answer of a running framegate, and the output of -o json and yaml.
type explanation struct {
	resolver.Explanation `yaml:",inline"`
	Target               *explainedTarget `json:"target,omitempty" yaml:"target,omitempty"` // only with --admin
}

// explainedTarget is where a running framegate would send the call now.
type explainedTarget struct {
	Backend string `json:"backend" yaml:"backend"`
	Address string `json:"address" yaml:"address"`
	Name    string `json:"name" yaml:"name,omitempty"`
}

// explain returns which of routes a call gets, without asking a running framegate.
func explain(routes []*spec.Route, req spec.Request) resolver.Explanation {
	r := resolver.New()
	r.Apply(filesource.Name, resolver.Bind(routes...))
	x := r.Explain(req)
	if match.BuiltinMethod(req.Method) {
		x.Builtin = "a listener answers it itself unless its configuration says health: routed"
	}
	return x
}

// goodRoutes returns the valid routes in etcd, and reports the others on standard error.
func goodRoutes(ctx context.Context, cmd *cobra.Command, s *etcdstore.Routes) ([]*spec.Route, error) {
	stored, bad, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, b := range bad {
		fmt.Fprintf(cmd.ErrOrStderr(), "framegate: %s; a framegate may have an earlier version in force, see --admin\n", oneLine(b))
	}
	routes := make([]*spec.Route, len(stored))
	for i, r := range stored {
		routes[i] = r.Route
	}
	return routes, nil
}

// writeLines writes lines as rows of a table; only the first row has the label.
func writeLines(w io.Writer, label string, lines []string) {
	for _, line := range lines {
		fmt.Fprintf(w, "%s\t%s\n", label, plain.Line(line))
		label = ""
	}
}

func writeExplanation(w io.Writer, out *outputFlag, x explanation) error {
	if out.format != outputTable {
		return out.write(w, x)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if x.Chosen == nil {
		fmt.Fprintln(t, "ROUTE\tnone")
	} else {
		fmt.Fprintf(t, "ROUTE\t%s\n", plain.Text(x.Chosen.Route))
		fmt.Fprintf(t, "MATCH\t%s\n", plain.Line(x.Chosen.Match))
		fmt.Fprintf(t, "PRIORITY\t%d\n", x.Chosen.Priority)
		writeLines(t, "BACKENDS", x.Backends)
		writeLines(t, "ENDPOINTS", x.Endpoints)
		if x.Mode != "" {
			fmt.Fprintf(t, "MODE\t%s\n", plain.Text(string(x.Mode)))
		}
		if x.Schema != "" {
			fmt.Fprintf(t, "SCHEMA\t%s\n", plain.Line(x.Schema))
		}
		writeLines(t, "RULES", x.Rules)
		writeLines(t, "MIRRORS", x.Mirrors)
		if x.Fanout != "" {
			fmt.Fprintf(t, "FANOUT\t%s\n", plain.Line(x.Fanout))
			writeLines(t, "TARGETS", x.Targets)
		}
	}
	if x.Target != nil {
		target := strings.TrimSpace(x.Target.Backend + " " + namedAddress(x.Target.Address, x.Target.Name))
		if x.Target.Address == "" {
			target = "none: no backend has an endpoint that may be used"
		}
		fmt.Fprintf(t, "TARGET\t%s\n", plain.Line(target))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if x.Builtin != "" {
		fmt.Fprintf(w, "warning: %s\n", x.Builtin)
	}
	writeBypasses(w, "warning: ", x.Bypasses)
	if len(x.Stronger) == 0 {
		return nil
	}
	fmt.Fprintln(t, "\nSTRONGER\tPRIORITY\tMATCH\tWHY NOT")
	for _, s := range x.Stronger {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", plain.Text(s.Route), s.Priority, plain.Line(s.Match), plain.Line(s.Reason))
	}
	return t.Flush()
}
