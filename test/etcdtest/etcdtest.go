// Package etcdtest has etcds for tests: real ones in process (etcdtest.go), one that the tests of a package share (shared.go),
// a TCP link to one that a test can cut or freeze (link.go), and a member that is behind or stuck (member.go).
package etcdtest

import (
	"net/url"
	"reflect"
	"testing"
	"time"

	etcdregistry "github.com/kitex-contrib/registry-etcd"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/framegate/framegate/resolver/etcdserver"
	"github.com/framegate/framegate/test/loopback"
)

// Soon bounds, on a busy machine, what takes less than a second on another.
const Soon = 20 * time.Second

// Eventually polls until ok, for at most limit, and returns how long it took.
func Eventually(t *testing.T, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !ok() {
		took := time.Since(began)
		if took > limit {
			t.Fatalf("not within %s: %s", limit, what)
		}
		time.Sleep(min(max(took/20, time.Millisecond), 20*time.Millisecond)) // longer and longer, because ok may be expensive
	}
	return time.Since(began)
}

// StartEtcd starts an empty etcd. After it is closed, another may be started at its address.
func StartEtcd(t *testing.T) *etcdserver.Server {
	t.Helper()
	return StartEtcdAt(t, t.TempDir(), loopback.Address(t))
}

// StartEtcdAt starts an etcd at address with its data in dir.
func StartEtcdAt(t *testing.T, dir, address string) *etcdserver.Server {
	t.Helper()
	s, err := etcdserver.Start(t.Context(), etcdserver.Config{Dir: dir, Address: address})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// PutRaw writes a document without any check, as another client of etcd may, and returns its revision.
func PutRaw(t *testing.T, cli *clientv3.Client, key string, doc []byte) int64 {
	t.Helper()
	resp, err := cli.Put(t.Context(), key, string(doc))
	require.NoError(t, err)
	return resp.Header.Revision
}

// CloseEtcdClient closes the client inside a registry or resolver of registry-etcd, which never closes it.
func CloseEtcdClient(of any) {
	field := reflect.ValueOf(of).Elem().FieldByName("etcdClient")
	_ = (*(**clientv3.Client)(field.Addr().UnsafePointer())).Close()
}

// QuietRegistry is an option of registry-etcd that turns off the log of its client.
func QuietRegistry(c *etcdregistry.Config) { c.EtcdConfig.Logger = zap.NewNop() }

// EnableAuth turns on etcd's authentication, with two users whose password is "p": root, and reader, who may only read the
// keys of instances.
func EnableAuth(t *testing.T, cli *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	for _, do := range []func() error{
		func() error { _, err := cli.RoleAdd(ctx, "reader"); return err },
		func() error {
			_, err := cli.RoleGrantPermission(ctx, "reader", "kitex/", clientv3.GetPrefixRangeEnd("kitex/"), clientv3.PermissionType(clientv3.PermRead))
			return err
		},
		func() error { _, err := cli.UserAdd(ctx, "reader", "p"); return err },
		func() error { _, err := cli.UserGrantRole(ctx, "reader", "reader"); return err },
		func() error { _, err := cli.RoleAdd(ctx, "root"); return err },
		func() error { _, err := cli.UserAdd(ctx, "root", "p"); return err },
		func() error { _, err := cli.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := cli.AuthEnable(ctx); return err },
	} {
		require.NoError(t, do())
	}
}

// StartEtcdForUsers runs an etcd that hashes passwords at the least cost. At the default cost, one takes a second under the
// race detector.
func StartEtcdForUsers(t *testing.T) (endpoint string) {
	t.Helper()
	return StartStock(t, "http", func(c *embed.Config) { c.BcryptCost = 4 })
}

// StartStock runs an etcd with etcd's default configuration, apart from its addresses and directory, as changed by change.
func StartStock(t *testing.T, scheme string, change func(*embed.Config)) (endpoint string) {
	t.Helper()
	c := embed.NewConfig()
	c.Dir = t.TempDir()
	c.ListenPeerUrls = nil
	c.ListenClientUrls = []url.URL{{Scheme: scheme, Host: "127.0.0.1:0"}}
	c.AdvertiseClientUrls = c.ListenClientUrls
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	change(c)
	e, err := embed.StartEtcd(c)
	require.NoError(t, err)
	t.Cleanup(e.Close)
	<-e.Server.ReadyNotify()
	return e.Clients[0].Addr().String()
}

// Leases returns how many leases etcd has.
func Leases(t *testing.T, cli *clientv3.Client) int {
	t.Helper()
	resp, err := cli.Leases(t.Context())
	require.NoError(t, err)
	return len(resp.Leases)
}
