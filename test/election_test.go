package test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/cmd/framegate/app"
	"github.com/framegate/framegate/resolver/etcdstore"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/etcdfront"
	"github.com/framegate/framegate/test/testbed"
)

// leader returns the member that leads the cluster.
func leader(t *testing.T, c *testbed.EtcdCluster) *testbed.EtcdMember {
	t.Helper()
	for _, m := range c.Members {
		cli := testbed.DialEtcd(t, m.Endpoint)
		st, err := cli.Status(patient(t), m.Endpoint)
		require.NoError(t, err)
		if st.Leader == st.Header.MemberId {
			return m
		}
	}
	t.Fatal("no member leads")
	return nil
}

// framegate runs a command line.
func framegate(args ...string) (code int, out string) {
	var b bytes.Buffer
	code = app.Run(context.Background(), args, strings.NewReader(""), &b, &b)
	return code, b.String()
}

func schemaFile(t *testing.T, message string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.proto")
	require.NoError(t, os.WriteFile(path, []byte(`syntax = "proto3"; package p; message `+message+` {}`), 0o600))
	return path
}

func routeFile(t *testing.T, name, method string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name+".yaml")
	require.NoError(t, os.WriteFile(path, []byte(routeDocument(name, method, "127.0.0.1:1")), 0o600))
	return path
}

// Every command that changes something waits for an election within its timeout. The leader is stopped for each, so that
// it may have the change already and never tell.
func TestElection_CommandsThatChangeSomethingWaitForIt(t *testing.T) {
	t.Parallel()
	cluster := testbed.NewEtcdCluster(t, 3)
	at := strings.Join(cluster.Endpoints(), ",")
	ok := func(args ...string) string {
		t.Helper()
		code, out := framegate(append(args, "--etcd", at, "--timeout", "20s")...)
		require.Zero(t, code, out)
		return out
	}
	ok("route", "put", "-f", routeFile(t, "gone", "/a.B/Gone"))
	ok("schema", "put", "gone", "-f", schemaFile(t, "Gone"))
	store := etcdstore.NewServices(testbed.DialEtcd(t, cluster.Members[0].Endpoint), etcdstore.DefaultServicePrefix)
	_, err := store.Heartbeat(patient(t), "echo", spec.Instance{Address: "h:1", Weight: 1}, time.Hour)
	require.NoError(t, err)

	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"route", "put", "-f", routeFile(t, "new", "/a.B/New"), "--if-revision", "0"}, "route new: created"},
		{[]string{"route", "put", "-f", routeFile(t, "new", "/a.B/Other")}, "route new: updated"},
		{[]string{"route", "rollback", "new"}, "route new: updated"},
		{[]string{"route", "delete", "gone"}, "route gone: deleted"},
		{[]string{"schema", "put", "s", "-f", schemaFile(t, "M")}, "schema s: created"},
		{[]string{"schema", "delete", "gone"}, "schema gone: deleted"},
		{[]string{"service", "deregister", "--name", "echo", "--address", "h:1"}, "service echo: h:1 deregistered"},
	} {
		stopped := leader(t, cluster)
		stopped.Stop()
		out := ok(c.args...)
		require.Contains(t, out, c.want)
		stopped.Continue()
		testbed.Poll(t, func() error { // it follows again
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := testbed.DialEtcd(t, stopped.Endpoint).Get(ctx, "k")
			return err
		})
	}
}

// Nobody tells what became of a change: that is what the command and the admin server say.
func TestElection_OutcomeThatNobodyTellsIsSaidToBeUnknown(t *testing.T) {
	t.Parallel()
	etcd := testbed.NewEtcd(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"route", "put", "-f", routeFile(t, "a", "/a.B/A")}, "route a: etcd at FRONT did not say what became of the change (no answer within 2s): it may or may not have been made; look with framegate route get a"},
		{[]string{"route", "delete", "a"}, "look with framegate route get a"},
		{[]string{"schema", "put", "s", "-f", schemaFile(t, "M")}, "schema s: etcd at FRONT did not say what became of the change (no answer within 2s): it may or may not have been made; look with framegate schema get s"},
		{[]string{"service", "deregister", "--name", "echo", "--address", "h:1"}, "look with framegate service list echo"},
	} {
		_, err := etcdstore.NewServices(testbed.DialEtcd(t, etcd.Endpoint), etcdstore.DefaultServicePrefix).Heartbeat(patient(t), "echo", spec.Instance{Address: "h:1", Weight: 1}, time.Hour)
		require.NoError(t, err)
		front := etcdfront.New(t, etcd.Endpoint)
		front.Lose(etcdfront.Silence)
		code, out := framegate(append(c.args, "--etcd", front.Endpoint, "--timeout", "2s")...)
		require.Equal(t, 1, code, out)
		require.Contains(t, out, strings.ReplaceAll(c.want, "FRONT", front.Endpoint))
	}

	front := etcdfront.New(t, etcd.Endpoint)
	proxy := testbed.NewProxy(t, "", testbed.EtcdAt(front.Endpoint), testbed.Admin())
	front.Lose(etcdfront.Silence)
	testbed.Poll(t, func() error { // once the gateway has a client
		req, err := http.NewRequestWithContext(patient(t), http.MethodPut, proxy.Admin()+"/v1/routes/b", strings.NewReader(routeDocument("b", "/a.B/B", "127.0.0.1:1")))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/yaml")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		if resp.StatusCode != http.StatusGatewayTimeout || !strings.Contains(string(body), `"reason":"outcome_unknown"`) {
			return fmt.Errorf("%s %s", resp.Status, body)
		}
		return nil
	})
}

// With two of three members gone there is no election to wait for. What the command says of the change is true.
func TestElection_WithoutAMajorityNothingIsChanged(t *testing.T) {
	t.Parallel()
	cluster := testbed.NewEtcdCluster(t, 3)
	last := cluster.Members[2]
	put := func(name string, etcd ...string) (int, string) {
		return framegate("route", "put", "-f", routeFile(t, name, "/a.B/"+name), "--etcd", strings.Join(etcd, ","), "--timeout", "4s")
	}
	cluster.Members[0].Stop()
	cluster.Members[1].Stop()
	testbed.Poll(t, func() error { // it notices that
		st, err := testbed.DialEtcd(t, last.Endpoint).Status(patient(t), last.Endpoint)
		if err == nil && st.Leader != 0 {
			return context.DeadlineExceeded
		}
		return err
	})
	code, out := put("never", last.Endpoint)
	require.Equal(t, 1, code)
	require.Contains(t, out, "takes calls but did not serve this one (put route never: etcdserver: no leader), so that nothing was changed")
	require.NotContains(t, out, "start it")

	code, out = put("never", "127.0.0.1:1")
	require.Equal(t, 1, code)
	require.Contains(t, out, "etcd at 127.0.0.1:1 cannot be used (")
	require.Contains(t, out, "start it")
}
