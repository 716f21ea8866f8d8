package etcdstore

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver/spec"
)

// sayLeavingTimeout bounds sayLeaving, so that it leaves time for the deregistration itself.
const sayLeavingTimeout = time.Second

// sayLeaving writes into the document of an instance that it is about to deregister, if it is on that lease; see
// Notes.Leaving. An error is ignored, because the deregistration does not need it.
func (s *Services) sayLeaving(ctx context.Context, service string, in spec.Instance, id clientv3.LeaseID) {
	ctx, cancel := context.WithTimeout(ctx, sayLeavingTimeout)
	defer cancel()
	doc, err := noted{in, Notes{Leaving: true}}.encode()
	if err != nil {
		return
	}
	key := ServiceKey(s.prefix, service, in.Address)
	_, _ = s.cli.Txn(ctx).
		If(clientv3.Compare(clientv3.LeaseValue(key), "=", id)).
		Then(clientv3.OpPut(key, string(doc), clientv3.WithLease(id))).
		Commit()
}
