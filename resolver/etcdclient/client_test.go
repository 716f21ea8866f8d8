package etcdclient

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/framegate/framegate/test/etcdtest"
	"github.com/framegate/framegate/test/testcert"
)

func clientOf(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	cli, err := New(Config{Endpoints: []string{endpoint}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = cli.Close() })
	return cli
}

func TestNewEtcdClient_NamesEachMistake(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "etcd endpoints: empty, want at least one host:port"},
		{Config{Endpoints: []string{"h:1", "nowhere"}}, `etcd endpoints: "nowhere", want host:port, http://host:port or https://host:port`},
		{Config{Endpoints: []string{"ftp://h:1"}}, `etcd endpoints: "ftp://h:1", want`},
		{Config{Endpoints: []string{"http://h:1/path"}}, `etcd endpoints: "http://h:1/path", want`},
		{Config{Endpoints: []string{"h:0"}}, `etcd endpoints: "h:0", want`},
		{Config{Endpoints: []string{"https://h:1", "h:2"}}, `etcd endpoints: "h:2" beside "https://h:1", want all with https:// or all without`},
		{Config{Endpoints: []string{"http://h:1"}, CAFile: "ca"}, `etcd endpoints: "http://h:1" with TLS files, want https://`},
		{Config{Endpoints: []string{"h:1"}, Username: "u"}, `etcd username: "u" without a password, want both or none`},
		{Config{Endpoints: []string{"h:1"}, Password: "p"}, `etcd username: "" with a password, want both or none`},
		{Config{Endpoints: []string{"h:1"}, CertFile: "c"}, `etcd cert_file: "c" with key "", want both files or none`},
		{Config{Endpoints: []string{"h:1"}, CAFile: "no.pem"}, "etcd CA file: open no.pem: no such file"},
		{Config{Endpoints: []string{"h:1"}, CAFile: empty}, "etcd CA file: " + empty + ", want certificates in PEM"},
		{Config{Endpoints: []string{"h:1"}, CertFile: "c.pem", KeyFile: "k.pem"}, "etcd certificate c.pem with key k.pem: open c.pem: no such file"},
	} {
		_, err := New(c.cfg)
		require.ErrorContains(t, err, c.want)
	}
}

func TestReachEtcd_SaysWhyNot(t *testing.T) {
	t.Parallel()
	began := time.Now()
	err := Reach(t.Context(), clientOf(t, "127.0.0.1:1"))
	require.ErrorContains(t, err, "connection refused")
	require.Less(t, time.Since(began), 3*time.Second, "a refused connection needs no timeout")

	// A server that takes connections and says nothing.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Error(t, Reach(ctx, clientOf(t, l.Addr().String())))

	at := etcdtest.Shared(t)
	require.NoError(t, Reach(t.Context(), clientOf(t, at.Endpoint)))
	require.NoError(t, Reach(t.Context(), clientOf(t, "http://"+at.Endpoint)))
}

// A member that takes requests and answers none is one of those that may be asked first.
func TestReachEtcd_AMemberThatHangsCostsAMoment(t *testing.T) {
	t.Parallel()
	at := etcdtest.Shared(t)
	var endpoints []string
	for i := range 3 {
		m := etcdtest.NewLateMember(t, at.Endpoint)
		if i < 2 {
			m.Hang()
		}
		endpoints = append(endpoints, m.Address())
	}
	cli, err := New(Config{Endpoints: endpoints})
	require.NoError(t, err)
	t.Cleanup(func() { _ = cli.Close() })
	for range 6 {
		ctx, cancel := context.WithTimeout(t.Context(), etcdtest.Soon)
		began := time.Now()
		require.NoError(t, Reach(ctx, cli))
		require.Less(t, time.Since(began), etcdtest.Soon/2)
		cancel()
	}
}

func TestNewEtcdClient_Users(t *testing.T) {
	t.Parallel()
	endpoint := etcdtest.StartEtcdForUsers(t)
	root := clientOf(t, endpoint)
	_, err := root.RoleAdd(t.Context(), "framegate")
	require.NoError(t, err)
	_, err = root.RoleGrantPermission(t.Context(), "framegate", "/framegate/", clientv3.GetPrefixRangeEnd("/framegate/"), clientv3.PermissionType(clientv3.PermReadWrite))
	require.NoError(t, err)
	for user, role := range map[string]string{"root": "root", "gate": "framegate"} {
		_, err = root.UserAdd(t.Context(), user, "secret")
		require.NoError(t, err)
		_, err = root.UserGrantRole(t.Context(), user, role)
		require.NoError(t, err)
	}
	_, err = root.AuthEnable(t.Context())
	require.NoError(t, err)

	cfg := Config{Endpoints: []string{endpoint}, Username: "gate", Password: "secret"}
	cli, err := New(cfg)
	require.NoError(t, err)
	defer cli.Close()
	_, err = cli.Put(t.Context(), "/framegate/routes/echo", "x")
	require.NoError(t, err)
	_, err = cli.Put(t.Context(), "/other/routes/echo", "x")
	require.ErrorContains(t, err, "permission denied")
	require.False(t, IsUnavailable(err))

	cfg.Password = "wrong"
	_, err = New(cfg)
	require.ErrorContains(t, err, "etcd at "+endpoint+": etcdserver: authentication failed")

	began := time.Now()
	_, err = New(Config{Endpoints: []string{"127.0.0.1:1"}, Username: "u", Password: "p", DialTimeout: 100 * time.Millisecond})
	require.True(t, IsUnavailable(err), "%v", err)
	require.Less(t, time.Since(began), 3*time.Second)
}

func TestNewEtcdClient_TLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := testcert.NewAuthority(t, dir)
	serverCert, serverKey := ca.Issue(t, dir, "server")
	clientCert, clientKey := ca.Issue(t, dir, "client")
	endpoint := startTLSEtcd(t, serverCert, serverKey, ca.File)

	cfg := Config{Endpoints: []string{endpoint}, CAFile: ca.File, CertFile: clientCert, KeyFile: clientKey}
	cli, err := New(cfg)
	require.NoError(t, err)
	defer cli.Close()
	require.NoError(t, Reach(t.Context(), cli))
	_, err = cli.Put(t.Context(), "/framegate/routes/echo", "x")
	require.NoError(t, err)

	cfg.CAFile = ""
	cli, err = New(cfg)
	require.NoError(t, err)
	defer cli.Close()
	require.ErrorContains(t, Reach(t.Context(), cli), "certificate signed by unknown authority")
}

// startTLSEtcd runs an etcd that takes clients with certificates of ca only.
func startTLSEtcd(t *testing.T, cert, key, ca string) (endpoint string) {
	t.Helper()
	return "https://" + etcdtest.StartStock(t, "https", func(c *embed.Config) {
		c.ClientTLSInfo.CertFile, c.ClientTLSInfo.KeyFile = cert, key
		c.ClientTLSInfo.TrustedCAFile, c.ClientTLSInfo.ClientCertAuth = ca, true
	})
}
