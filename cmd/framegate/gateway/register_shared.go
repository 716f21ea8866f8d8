package gateway

import (
	"context"
	"net"
	"os"
	"time"

	"github.com/cloudwego/kitex/pkg/registry"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver"
)

// sharedKey is the key of a registration whose address a new process may take over while this one drains. The new one
// then writes the same key, and registry-etcd would delete it when the old one goes: for half a minute, until it looked
// again, nobody would be registered.
type sharedKey struct {
	etcd     resolver.EtcdClientConfig
	key      string
	revision int64 // of etcd, when we wrote the key; 0 if it is not known
}

// sharedKeyTimeout bounds a request to etcd for a sharedKey.
const sharedKeyTimeout = 3 * time.Second

// newSharedKey returns nil where the key cannot be known: registry-etcd puts in an address of its own.
func newSharedKey(etcd resolver.EtcdClientConfig, prefix string, info *registry.Info) *sharedKey {
	host, _, err := net.SplitHostPort(info.Addr.String())
	if err != nil || host == "" || host == "::" || os.Getenv("KITEX_IP_TO_REGISTRY") != "" {
		return nil
	}
	return &sharedKey{etcd: etcd, key: prefix + "/" + info.ServiceName + "/" + info.Addr.String()}
}

// remember notes that the key is ours. It comes right after it was written.
func (k *sharedKey) remember(ctx context.Context) {
	if k == nil {
		return
	}
	_ = k.do(ctx, func(ctx context.Context, cli *clientv3.Client) error {
		got, err := cli.Get(ctx, k.key)
		if err == nil && len(got.Kvs) == 1 {
			k.revision = got.Kvs[0].ModRevision
		}
		return err
	})
}

// remove deregisters from reg, but leaves a key that another process has written since.
func (k *sharedKey) remove(reg registry.Registry, info *registry.Info) error {
	if k == nil || k.revision == 0 {
		return reg.Deregister(info)
	}
	err := k.do(context.Background(), func(ctx context.Context, cli *clientv3.Client) error {
		_, err := cli.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(k.key), "=", k.revision)).Then(clientv3.OpDelete(k.key)).Commit()
		return err
	})
	if err != nil {
		return err
	}
	nobody := *info
	nobody.ServiceName += "/gone" // a key that nobody has: this only ends what registry-etcd does in the background
	return reg.Deregister(&nobody)
}

func (k *sharedKey) do(ctx context.Context, f func(context.Context, *clientv3.Client) error) error {
	cli, err := resolver.NewEtcdClient(k.etcd)
	if err != nil {
		return err
	}
	defer cli.Close()
	ctx, cancel := context.WithTimeout(ctx, sharedKeyTimeout)
	defer cancel()
	return f(ctx, cli)
}
