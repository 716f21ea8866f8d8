package gateway

import (
	"context"
	"net"
	"os"
	"time"

	"github.com/cloudwego/kitex/pkg/registry"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/etcdstore"
)

// ownKey is the key of a registration that is deleted here and not by registry-etcd, which would delete it whosever it is: a
// new process may have written the same key while this one drains, and for half a minute, until it looked again, nobody would
// be registered. Nor does registry-etcd find a key whose address was fixed.
type ownKey struct {
	etcd  etcdclient.Config
	key   string
	lease clientv3.LeaseID // of our registration; NoLease if it is not known
}

// ownKeyTimeout bounds a request to etcd for an ownKey.
const ownKeyTimeout = 3 * time.Second

// newOwnKey returns nil where the key cannot be known: registry-etcd puts in an address of its own.
func newOwnKey(etcd etcdclient.Config, prefix string, info *registry.Info, fixed net.Addr) *ownKey {
	addr := info.Addr.String()
	if fixed != nil {
		addr = fixed.String()
	} else if host, _, err := net.SplitHostPort(addr); err != nil || host == "" || host == "::" || os.Getenv("KITEX_IP_TO_REGISTRY")+os.Getenv("KITEX_PORT_TO_REGISTRY") != "" {
		return nil
	}
	return &ownKey{etcd: etcd, key: etcdstore.ServiceKey(prefix, info.ServiceName, addr)}
}

// remember notes that the key is ours. It comes right after it was written.
func (k *ownKey) remember(ctx context.Context) {
	if k == nil {
		return
	}
	_ = k.do(ctx, func(ctx context.Context, cli *clientv3.Client) error {
		got, err := cli.Get(ctx, k.key)
		if err == nil && len(got.Kvs) == 1 {
			k.lease = clientv3.LeaseID(got.Kvs[0].Lease)
		}
		return err
	})
}

// remove deregisters from reg, but leaves a key that another process has written since.
func (k *ownKey) remove(reg registry.Registry, info *registry.Info) error {
	if k == nil {
		return reg.Deregister(info)
	}
	err := k.do(context.Background(), func(ctx context.Context, cli *clientv3.Client) error {
		var ours []clientv3.Cmp
		if k.lease != clientv3.NoLease {
			if left, err := cli.TimeToLive(ctx, k.lease); err == nil && left.TTL > 0 { // else registry-etcd has taken another one
				ours = append(ours, clientv3.Compare(clientv3.LeaseValue(k.key), "=", k.lease))
			}
		}
		_, err := cli.Txn(ctx).If(ours...).Then(clientv3.OpDelete(k.key)).Commit()
		return err
	})
	if err != nil {
		return err
	}
	nobody := *info
	nobody.ServiceName += "/gone" // a key that nobody has: this only ends what registry-etcd does in the background
	return reg.Deregister(&nobody)
}

func (k *ownKey) do(ctx context.Context, f func(context.Context, *clientv3.Client) error) error {
	cli, err := etcdclient.New(k.etcd)
	if err != nil {
		return err
	}
	defer cli.Close()
	ctx, cancel := context.WithTimeout(ctx, ownKeyTimeout)
	defer cancel()
	return f(ctx, cli)
}
