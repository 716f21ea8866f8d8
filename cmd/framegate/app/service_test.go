package app

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/etcdserver"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/spec"
)

// serviceCLI runs `framegate service ...` against an etcd of its own.
type serviceCLI struct {
	t        *testing.T
	endpoint string
	server   *etcdserver.Server
	cli      *clientv3.Client
	store    *etcdstore.Services
}

func newServiceCLI(t *testing.T) *serviceCLI {
	t.Helper()
	s, err := etcdserver.Start(t.Context(), etcdserver.Config{Dir: t.TempDir(), Address: "127.0.0.1:0"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	cli, err := etcdclient.New(etcdclient.Config{Endpoints: []string{s.Endpoint()}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = cli.Close() })
	return &serviceCLI{t: t, endpoint: s.Endpoint(), server: s, cli: cli, store: etcdstore.NewServices(cli, etcdstore.DefaultServicePrefix)}
}

func (c *serviceCLI) put(service string, in spec.Instance, ttl time.Duration) {
	c.t.Helper()
	_, err := c.store.Heartbeat(c.t.Context(), service, in, ttl)
	require.NoError(c.t, err)
}

// instances returns what is registered for the service echo.
func (c *serviceCLI) instances() []spec.Instance {
	c.t.Helper()
	services, bad, err := c.store.List(c.t.Context())
	require.NoError(c.t, err)
	require.Empty(c.t, bad)
	var in []spec.Instance
	for _, s := range services {
		if s.Service == "echo" {
			for _, i := range s.Instances {
				in = append(in, i.Instance)
			}
		}
	}
	return in
}

// run adds --etcd to args. The error is what Run would print, and code its exit code.
func (c *serviceCLI) run(args ...string) (stdout, stderr string, code int, err error) {
	c.t.Helper()
	return runService(c.t.Context(), append(args, "--etcd", c.endpoint)...)
}

func (c *serviceCLI) ok(args ...string) string {
	c.t.Helper()
	stdout, stderr, _, err := c.run(args...)
	require.NoError(c.t, err)
	require.Empty(c.t, stderr)
	return stdout
}

func runService(ctx context.Context, args ...string) (stdout, stderr string, code int, err error) {
	return execute(ctx, newServiceCommand(), "", args...)
}

func TestService_ListPrintsInstances(t *testing.T) {
	t.Parallel()
	c := newServiceCLI(t)
	require.Equal(t, "SERVICE  ADDRESS  WEIGHT  TTL  TAGS\n", c.ok("list"))
	require.JSONEq(t, `{"services": []}`, c.ok("list", "-o", "json"))
	c.put("echo", spec.Instance{Address: "127.0.0.1:9001", Weight: 20, Tags: map[string]string{"zone": "1", "cluster": "a"}}, time.Hour)
	c.put("echo", spec.Instance{Address: "unix:/run/echo.sock", Weight: 1, Tags: map[string]string{"a": "\x1b[2J\t"}}, time.Hour)
	_, err := c.cli.Put(t.Context(), etcdstore.ServiceKey(etcdstore.DefaultServicePrefix, "shop", "h:1"), `{"network":"tcp","address":"h:1"}`)
	require.NoError(t, err)

	require.Regexp(t, `^SERVICE  ADDRESS              WEIGHT  TTL\s+TAGS
echo     127\.0\.0\.1:9001       20      (1h0m0s|59m5\ds)\s+cluster=a,zone=1
echo     unix:/run/echo\.sock  1       (1h0m0s|59m5\ds)\s+"a=\\x1b\[2J\\t"
shop     h:1                  10      none\s+-
$`, c.ok("list"))
	require.Regexp(t, `(?s)^SERVICE [^\n]+\nshop [^\n]+\n$`, c.ok("list", "shop"))
	require.JSONEq(t, `{"services": [{"name": "shop", "instances": [{"address": "h:1", "weight": 10, "revision": 4}]}]}`, c.ok("list", "shop", "-o", "json"))
	require.Regexp(t, `services:
  - name: echo
    instances:
      - address: 127.0.0.1:9001
        weight: 20
        tags:
          cluster: a
          zone: "1"
        ttl: \S+
        revision: 2
`, c.ok("list", "-o", "yaml"))

	_, _, code, err := c.run("list", "nobody")
	require.Equal(t, exitFailed, code)
	require.EqualError(t, err, "service nobody: no instance in etcd at "+c.endpoint)
}

func TestService_ListNamesBadDocuments(t *testing.T) {
	t.Parallel()
	c := newServiceCLI(t)
	c.put("shop", spec.Instance{Address: "h:1", Weight: 1}, time.Hour)
	_, err := c.cli.Put(t.Context(), etcdstore.ServiceKey(etcdstore.DefaultServicePrefix, "echo", "bad"), `{"network":"tcp","address":"nowhere"}`)
	require.NoError(t, err)
	const want = "framegate: instance kitex/registry-etcd/echo/bad: bad document at revision 3: address: \"nowhere\", want host:port or unix:/path; remove it\n"
	stdout, stderr, _, err := c.run("list")
	require.NoError(t, err)
	require.Contains(t, stdout, "shop")
	require.NotContains(t, stdout, "echo")
	require.Equal(t, want, stderr)
	_, stderr, _, err = c.run("list", "shop")
	require.NoError(t, err)
	require.Empty(t, stderr)
	_, stderr, code, _ := c.run("list", "echo")
	require.Equal(t, exitFailed, code)
	require.Equal(t, want, stderr)

	require.Equal(t, "service echo: bad deregistered\n", c.ok("deregister", "--name", "echo", "--address", "bad"))
	_, stderr, _, err = c.run("list")
	require.NoError(t, err)
	require.Empty(t, stderr)
}

func TestService_Deregister(t *testing.T) {
	t.Parallel()
	c := newServiceCLI(t)
	in := spec.Instance{Address: "127.0.0.1:9001", Weight: 1}
	c.put("echo", in, time.Hour)
	args := []string{"deregister", "--name", "echo", "--address", in.Address}
	require.JSONEq(t, `{"service":"echo","address":"127.0.0.1:9001","outcome":"deregistered"}`, c.ok(append(args, "-o", "json")...))
	require.Empty(t, c.instances())
	_, _, code, err := c.run(args...)
	require.Equal(t, exitFailed, code)
	require.EqualError(t, err, "service echo: no instance 127.0.0.1:9001 in etcd at "+c.endpoint)
}

func TestService_Weight(t *testing.T) {
	t.Parallel()
	c := newServiceCLI(t)
	in := spec.Instance{Address: "127.0.0.1:9001", Weight: 10, Tags: map[string]string{"a": "b"}}
	c.put("echo", in, time.Hour)
	require.Equal(t, "service echo: 127.0.0.1:9001 updated, weight 10 -> 3 (revision 3)\n", c.ok("weight", "echo", in.Address, "3"))
	in.Weight = 3
	require.Equal(t, []spec.Instance{in}, c.instances())
	require.JSONEq(t, `{"service":"echo","address":"127.0.0.1:9001","outcome":"unchanged","was":3,"weight":3,"revision":3}`, c.ok("weight", "echo", in.Address, "3", "-o", "json"))
	_, _, code, err := c.run("weight", "echo", "127.0.0.1:9002", "3")
	require.Equal(t, exitFailed, code)
	require.EqualError(t, err, "service echo: no instance 127.0.0.1:9002 in etcd at "+c.endpoint)
}

// registry-etcd leaves the brackets of an IPv6 address out, in the key and in the document.
func TestService_IPv6InstancesAreFoundHoweverTheyAreWritten(t *testing.T) {
	t.Parallel()
	c := newServiceCLI(t)
	for _, given := range []string{"[::1]:9001", "::1:9001"} {
		_, err := c.cli.Put(t.Context(), "kitex/registry-etcd/echo/::1:9001", `{"network":"tcp","address":"::1:9001","weight":10}`)
		require.NoError(t, err)
		require.Equal(t, []spec.Instance{{Address: "[::1]:9001", Weight: 10}}, c.instances())
		require.Contains(t, c.ok("weight", "echo", given, "3"), "service echo: [::1]:9001 updated, weight 10 -> 3")
		require.Equal(t, []spec.Instance{{Address: "[::1]:9001", Weight: 3}}, c.instances())
		require.Contains(t, c.ok("list"), "[::1]:9001")
		c.put("echo", spec.Instance{Address: "[::1]:9001", Weight: 1}, time.Hour)
		require.Equal(t, "service echo: "+given+" deregistered\n", c.ok("deregister", "--name", "echo", "--address", given))
		require.Empty(t, c.instances(), "both are gone")
	}
}

func TestService_KeepsToItsPrefix(t *testing.T) {
	t.Parallel()
	c := newServiceCLI(t)
	c.store = etcdstore.NewServices(c.cli, "/other/services")
	c.put("echo", spec.Instance{Address: "h:1", Weight: 1}, time.Hour)
	require.NotContains(t, c.ok("list"), "echo")
	require.Contains(t, c.ok("list", "--service-prefix", "/other/services"), "echo")
}

func TestService_WrongUsageNamesFlagValueAndWant(t *testing.T) {
	t.Parallel()
	register := func(args ...string) []string {
		return append([]string{"register", "--name", "echo", "--address", "h:1"}, args...)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "service: a command is missing, want register, list, weight or deregister"},
		{[]string{"rename"}, `service: unknown command "rename"`},
		{[]string{"list", "a", "b"}, `service list: arguments ["a" "b"], want the NAME of one service or nothing`},
		{[]string{"list", "a/b"}, `service list: arguments ["a/b"], want the NAME`},
		{[]string{"list", "--service-prefix", "x/"}, `--service-prefix: "x/", want a prefix such as kitex/registry-etcd`},
		{[]string{"list", "--timeout", "0s"}, "--timeout: 0s, want more than 0s"},
		{[]string{"deregister"}, `--name: "", want 1 to 255 printable characters`},
		{[]string{"deregister", "--name", "echo"}, `--address: "", want host:port or unix:/path`},
		{[]string{"weight", "echo", "h:1"}, `service weight: arguments ["echo" "h:1"], want NAME ADDRESS WEIGHT`},
		{[]string{"weight", "a/b", "h:1", "1"}, `NAME: "a/b", want 1 to 255`},
		{[]string{"weight", "echo", "", "1"}, `ADDRESS: "", want host:port`},
		{[]string{"weight", "echo", "h:1", "0"}, `WEIGHT: "0", want 1 to 1000000`},
		{[]string{"weight", "echo", "h:1", "1000001"}, `WEIGHT: "1000001", want 1 to 1000000`},
		{[]string{"weight", "echo", "h:1", "half"}, `WEIGHT: "half", want 1 to 1000000`},
		{[]string{"register"}, `--name: "", want 1 to 255`},
		{[]string{"register", "--name", "echo"}, `address: "", want host:port or unix:/path`},
		{register("--weight", "0"), "weight: 0, want 1 to 1000000"},
		{register("--ttl", "1500ms"), "--ttl: 1.5s, want whole seconds from 1s to 24h0m0s"},
		{register("--etcd", "nowhere"), `etcd endpoints: "nowhere", want host:port`},
		{register("-o", "xml"), `-o: "xml", want table, json or yaml`},
		{register("sleep", "1"), `service register: unexpected argument "sleep", want COMMAND after --`},
		{register("sleep", "--", "1"), `service register: unexpected argument "sleep", want COMMAND after --`},
		{register("--"), "service register: nothing after --, want COMMAND"},
	} {
		_, _, code, err := runService(t.Context(), c.args...)
		require.Equal(t, exitUsage, code, c.args)
		require.ErrorContains(t, err, c.want)
	}
}

func TestService_SaysThatEtcdCannotBeReached(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"list"}, {"deregister", "--name", "echo", "--address", "h:1"}} {
		_, _, code, err := runService(t.Context(), append(args, "--etcd", "127.0.0.1:1")...)
		require.Equal(t, exitFailed, code)
		require.ErrorContains(t, err, "etcd at 127.0.0.1:1 cannot be used (")
	}
}
