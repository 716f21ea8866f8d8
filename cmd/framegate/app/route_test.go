package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"gopkg.in/yaml.v3"

	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/etcdserver"
)

// routeCLI runs `framegate route ...` against an etcd of its own.
type routeCLI struct {
	t        *testing.T
	endpoint string
	stdin    string
}

func newRouteCLI(t *testing.T) *routeCLI {
	t.Helper()
	s, err := etcdserver.Start(t.Context(), etcdserver.Config{Dir: t.TempDir(), Address: "127.0.0.1:0"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return &routeCLI{t: t, endpoint: s.Endpoint()}
}

// run adds --etcd to args. The error is what Run would print, and code its exit code.
func (c *routeCLI) run(args ...string) (stdout, stderr string, code int, err error) {
	c.t.Helper()
	return runRoute(c.t, c.stdin, append(args, "--etcd", c.endpoint)...)
}

func (c *routeCLI) ok(args ...string) string {
	c.t.Helper()
	stdout, stderr, _, err := c.run(args...)
	require.NoError(c.t, err)
	require.Empty(c.t, stderr)
	return stdout
}

func (c *routeCLI) client() *clientv3.Client {
	c.t.Helper()
	cli, err := etcdclient.New(etcdclient.Config{Endpoints: []string{c.endpoint}})
	require.NoError(c.t, err)
	c.t.Cleanup(func() { _ = cli.Close() })
	return cli
}

func runRoute(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int, err error) {
	t.Helper()
	return execute(t.Context(), newRouteCommand(), stdin, args...)
}

// execute runs one of the commands. The error is what Run would print, and code its exit code.
func execute(ctx context.Context, cmd *cobra.Command, stdin string, args ...string) (stdout, stderr string, code int, err error) {
	var out, errs bytes.Buffer
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetArgs(append([]string{}, args...)) // nil would be the arguments of the test itself
	err = cmd.ExecuteContext(ctx)
	var usage *usageError
	switch {
	case errors.As(err, &usage):
		code = exitUsage
	case err != nil:
		code = exitFailed
	}
	return out.String(), errs.String(), code, err
}

const echoRoute = `name: echo
match:
  - method: /echo.Echo/*
mode: frame
backends:
  - endpoints:
      - address: 127.0.0.1:9001
timeout: 1.5s
`

const twoRoutes = `routes:
- {name: a, priority: 7, match: [{method: /a.A/M}], backends: [{endpoints: [{address: "h:1"}]}]}
- {name: b, match: [{method: "*"}], backends: [{endpoints: [{address: "unix:/run/b.sock"}]}]}
`

func document(t *testing.T, doc string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "routes.yaml")
	require.NoError(t, os.WriteFile(path, []byte(doc), 0o600))
	return path
}

func TestRoute_PutSaysWhatBecameOfEachRoute(t *testing.T) {
	t.Parallel()
	c := newRouteCLI(t)
	path := document(t, echoRoute)
	require.Equal(t, "route echo: created (revision 2)\n", c.ok("put", "-f", path))
	require.Equal(t, "route echo: unchanged (revision 2)\n", c.ok("put", "-f", path))
	require.Equal(t, "route echo: updated (revision 3)\n", c.ok("put", "-f", document(t, echoRoute+"priority: 1\n")))

	c.stdin = twoRoutes
	require.Equal(t, "route a: created (revision 4)\nroute b: created (revision 4)\n", c.ok("put", "-f", "-"))
	require.JSONEq(t, `[{"name":"a","outcome":"unchanged","revision":4},{"name":"b","outcome":"unchanged","revision":4}]`,
		c.ok("put", "-f", "-", "-o", "json"))
	var changes []routeChange
	require.NoError(t, yaml.Unmarshal([]byte(c.ok("put", "-f", "-", "-o", "yaml")), &changes))
	require.Equal(t, []routeChange{{"a", "unchanged", 4}, {"b", "unchanged", 4}}, changes)
}

func TestRoute_PutStoresNothingIfOneRouteIsBad(t *testing.T) {
	t.Parallel()
	c := newRouteCLI(t)
	path := document(t, twoRoutes+"- {name: c, match: [], backends: [{endpoints: [{address: nowhere}]}]}\n")
	stdout, _, code, err := c.run("put", "-f", path)
	require.Equal(t, exitFailed, code)
	require.Empty(t, stdout)
	require.ErrorContains(t, err, path+": routes[2] (c): match: empty")
	require.ErrorContains(t, err, `backends[0].endpoints[0].address: "nowhere", want host:port or unix:/path`)
	require.Equal(t, "NAME  MODE  PRIORITY  REVISION  ROUTE\n", c.ok("list"))
}

func TestRoute_GetPrintsADocumentThatCanBePut(t *testing.T) {
	t.Parallel()
	c := newRouteCLI(t)
	c.ok("put", "-f", document(t, echoRoute))
	require.Equal(t, "NAME  MODE   PRIORITY  REVISION  ROUTE\n"+
		"echo  frame  0         2         /echo.Echo/* -> 127.0.0.1:9001\n", c.ok("get", "echo", "-o", "table"))
	require.Equal(t, echoRoute, c.ok("get", "echo"))
	require.Equal(t, echoRoute, c.ok("get", "echo", "-o", "yaml"))
	require.Equal(t, "route echo: unchanged (revision 2)\n", c.ok("put", "-f", document(t, c.ok("get", "echo"))))
	asJSON := c.ok("get", "echo", "-o", "json")
	require.JSONEq(t, `{"name":"echo","match":[{"method":"/echo.Echo/*"}],"mode":"frame","timeout":"1.5s",
		"backends":[{"endpoints":[{"address":"127.0.0.1:9001"}]}]}`, asJSON)
	require.Equal(t, "route echo: unchanged (revision 2)\n", c.ok("put", "-f", document(t, asJSON)))
}

func TestRoute_ListPrintsADocumentThatCanBePut(t *testing.T) {
	t.Parallel()
	c := newRouteCLI(t)
	require.JSONEq(t, `{"routes": []}`, c.ok("list", "-o", "json"))
	c.ok("put", "-f", document(t, twoRoutes))
	require.Equal(t, "NAME  MODE   PRIORITY  REVISION  ROUTE\n"+
		"a     frame  7         2         /a.A/M -> h:1\n"+
		"b     frame  0         2         * -> unix:/run/b.sock\n", c.ok("list"))
	for _, format := range []string{"yaml", "json"} {
		doc := c.ok("list", "-o", format)
		require.Equal(t, "route a: unchanged (revision 2)\nroute b: unchanged (revision 2)\n", c.ok("put", "-f", document(t, doc)), format)
	}
	require.True(t, json.Valid([]byte(c.ok("list", "-o", "json"))))
}

func TestRoute_ListShowsBadDocuments(t *testing.T) {
	t.Parallel()
	c := newRouteCLI(t)
	c.ok("put", "-f", document(t, echoRoute))
	for name, doc := range map[string]string{"bad": "colour: red\nname: [1]", "zed\t/x": "name: zed"} {
		_, err := c.client().Put(t.Context(), "/framegate/routes/"+name, doc)
		require.NoError(t, err)
	}
	lines := strings.Split(c.ok("list"), "\n")
	require.Len(t, lines, 5)
	require.Regexp(t, `^bad +- +- +[34] +error: line 1: colour: unknown key, want one of: .*; .*$`, lines[1])
	require.Regexp(t, `^echo +frame +0 +2 +/echo`, lines[2])
	require.Regexp(t, `^"zed\\t/x" +- +- +[34] +error: match: empty`, lines[3])

	for _, format := range []string{"json", "yaml"} {
		stdout, stderr, _, err := c.run("list", "-o", format)
		require.NoError(t, err)
		require.Equal(t, "route echo: unchanged (revision 2)\n", c.ok("put", "-f", document(t, stdout)))
		require.Contains(t, stderr, "framegate: route bad: bad document at revision ")
		require.Contains(t, stderr, "; put it again or delete it\n")
		require.Equal(t, 2, strings.Count(stderr, "\n"), "a line each")
	}

	_, _, code, err := c.run("get", "bad")
	require.Equal(t, exitFailed, code)
	require.ErrorContains(t, err, "route bad: bad document at revision ")
	require.Equal(t, "route bad: deleted\n", c.ok("delete", "bad"))
}

func TestRoute_DeleteAndGetNameAMissingRoute(t *testing.T) {
	t.Parallel()
	c := newRouteCLI(t)
	c.ok("put", "-f", document(t, echoRoute))
	require.JSONEq(t, `[{"name":"echo","outcome":"deleted"}]`, c.ok("delete", "echo", "-o", "json"))
	for _, command := range []string{"delete", "get"} {
		_, _, code, err := c.run(command, "echo")
		require.Equal(t, exitFailed, code)
		require.EqualError(t, err, "route echo: not found in etcd at "+c.endpoint)
	}
}

func TestRoute_KeepsToItsPrefix(t *testing.T) {
	t.Parallel()
	c := newRouteCLI(t)
	c.ok("put", "-f", document(t, echoRoute), "--prefix", "/other/gate")
	require.NotContains(t, c.ok("list"), "echo")
	require.Contains(t, c.ok("list", "--prefix", "/other/gate"), "echo")
	got, err := c.client().Get(t.Context(), "/other/gate/routes/echo")
	require.NoError(t, err)
	require.Equal(t, echoRoute, string(got.Kvs[0].Value))
}

func TestRoute_TakesThePasswordFromTheEnvironment(t *testing.T) {
	c := newRouteCLI(t)
	cli := c.client()
	_, err := cli.UserAdd(t.Context(), "root", "secret")
	require.NoError(t, err)
	_, err = cli.UserGrantRole(t.Context(), "root", "root")
	require.NoError(t, err)
	_, err = cli.AuthEnable(t.Context())
	require.NoError(t, err)

	_, _, code, err := c.run("list")
	require.Equal(t, exitFailed, code)
	require.ErrorContains(t, err, "user name is empty")
	t.Setenv("FRAMEGATE_ETCD_PASSWORD", "secret")
	c.ok("list", "--etcd-user", "root")
	_, _, code, err = c.run("list", "--etcd-user", "root", "--etcd-password", "wrong")
	require.Equal(t, exitFailed, code)
	require.ErrorContains(t, err, "etcd at "+c.endpoint+": etcdserver: authentication failed")
}

func TestRoute_ValidateNeedsNoEtcd(t *testing.T) {
	t.Parallel()
	stdout, _, _, err := runRoute(t, "", "validate", "-f", document(t, twoRoutes))
	require.NoError(t, err)
	require.Equal(t, "route a: valid\nroute b: valid\n", stdout)
	stdout, _, _, err = runRoute(t, echoRoute, "validate", "-f", "-")
	require.NoError(t, err)
	require.Equal(t, "route echo: valid\n", stdout)

	for doc, want := range map[string]string{
		"name: echo\ncolour: red\n": "standard input: line 2: colour: unknown key, want one of: name,",
		"":                          "standard input: empty, want a route or routes: [...]",
		"routes: []":                "standard input: routes: empty, want at least one",
	} {
		_, _, code, err := runRoute(t, doc, "validate", "-f", "-")
		require.Equal(t, exitFailed, code)
		require.ErrorContains(t, err, want)
	}
	_, _, code, err := runRoute(t, "", "validate", "-f", "no-such-file.yaml")
	require.Equal(t, exitFailed, code)
	require.EqualError(t, err, "open no-such-file.yaml: no such file or directory")
}

func TestRoute_SaysThatEtcdCannotBeReached(t *testing.T) {
	t.Parallel()
	// slack is what a busy machine may add. Without --timeout, it is 5s.
	const slack = 4 * time.Second
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { silent.Close() })
	for _, c := range []struct {
		endpoint, want string
		within         time.Duration
		args           []string
	}{
		{"127.0.0.1:1", "connect: connection refused", startPatience + slack, nil},
		{"127.0.0.1:1", "connect: connection refused", startPatience + slack, []string{"--etcd-user", "u", "--etcd-password", "p"}},
		{silent.Addr().String(), "no answer within 300ms", slack, []string{"--timeout", "300ms"}},
	} {
		for _, command := range [][]string{{"list"}, {"get", "echo"}, {"delete", "echo"}, {"put", "-f", "-"}} {
			t.Run(fmt.Sprint(c.endpoint, command, c.args), func(t *testing.T) {
				t.Parallel()
				began := time.Now()
				_, _, code, err := runRoute(t, echoRoute, append(append(command, "--etcd", c.endpoint), c.args...)...)
				require.Equal(t, exitFailed, code)
				require.ErrorContains(t, err, "etcd at "+c.endpoint+" cannot be used (")
				require.ErrorContains(t, err, c.want)
				require.ErrorContains(t, err, "name another with --etcd ENDPOINT")
				require.NotContains(t, err.Error(), "\n")
				require.Less(t, time.Since(began), c.within)
			})
		}
	}
}

func TestRoute_WrongUsageNamesFlagValueAndWant(t *testing.T) {
	t.Parallel()
	good := document(t, echoRoute)
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "route: a command is missing, want put, get, list, edit, delete, validate, explain, history or rollback"},
		{[]string{"rename"}, `route: unknown command "rename"`},
		{[]string{"put"}, "route put: -f is missing, want a file or - for standard input"},
		{[]string{"put", "-f", good, "extra"}, `route put: unexpected argument "extra", want none`},
		{[]string{"validate"}, "route validate: -f is missing"},
		{[]string{"get"}, `route get: arguments [], want the NAME of one route`},
		{[]string{"delete", "a", "b"}, `route delete: arguments ["a" "b"], want the NAME of one route`},
		{[]string{"list", "-o", "xml"}, `-o: "xml", want table, json or yaml`},
		{[]string{"list", "--timeout", "0s"}, "--timeout: 0s, want more than 0s"},
		{[]string{"list", "--prefix", "framegate"}, `--prefix: "framegate", want /name`},
		{[]string{"list", "--etcd", "h:1,nowhere"}, `etcd endpoints: "nowhere", want host:port`},
		{[]string{"list", "--etcd-user", "u"}, `etcd username: "u" without a password`},
		{[]string{"list", "--etcd-cert", "c"}, `etcd cert_file: "c" with key "", want both files`},
	} {
		_, _, code, err := runRoute(t, "", c.args...)
		require.Equal(t, exitUsage, code, c.args)
		require.ErrorContains(t, err, c.want)
	}
}

func TestRoute_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, _, _, err = execute(ctx, newRouteCommand(), "", "list", "--etcd", silent.Addr().String(), "--timeout", "1m")
	require.Error(t, err)
	require.Less(t, time.Since(began), 5*time.Second)
}
