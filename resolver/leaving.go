package resolver

import (
	"context"
	"encoding/json"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// leavingKey is in the document of an instance that is about to deregister. Its key is deleted next, and watches that
// have seen it know that this was meant: the end of a lease, of which nobody was told, deletes keys just so.
// registry-etcd takes no notice of it.
const leavingKey = "leaving"

// leavingDocument is the document of a valid instance that says that it leaves.
func leavingDocument(in Instance) ([]byte, error) {
	doc, err := in.encode()
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(doc, &fields); err != nil {
		return nil, err
	}
	fields[leavingKey] = json.RawMessage("true")
	return json.Marshal(fields)
}

// isLeaving reports whether the document of an instance says that it leaves.
func isLeaving(doc []byte) bool {
	var says struct {
		Leaving bool `json:"leaving"`
	}
	return json.Unmarshal(doc, &says) == nil && says.Leaving
}

// sayLeavingTimeout bounds what is worth less than the deregistration itself.
const sayLeavingTimeout = time.Second

// sayLeaving writes that an instance leaves, if it is on that lease and etcd takes it.
func (s *ServiceStore) sayLeaving(ctx context.Context, service string, in Instance, id clientv3.LeaseID) {
	ctx, cancel := context.WithTimeout(ctx, sayLeavingTimeout)
	defer cancel()
	doc, err := leavingDocument(in)
	if err != nil {
		return
	}
	key := ServiceKey(s.prefix, service, in.Address)
	_, _ = s.cli.Txn(ctx).
		If(clientv3.Compare(clientv3.LeaseValue(key), "=", id)).
		Then(clientv3.OpPut(key, string(doc), clientv3.WithLease(id))).
		Commit()
}
