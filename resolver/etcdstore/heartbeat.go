package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
)

// Heartbeat is the result of a heartbeat.
type Heartbeat struct {
	Outcome  match.Outcome
	Revision int64            // of the last change of the instance
	Lease    clientv3.LeaseID // that the instance is attached to

	weight int // that SetWeight gave the instance; 0 for none
}

// Heartbeat registers an instance for ttl, or keeps it registered for ttl from now. If an earlier Heartbeat has put the same
// instance on a lease of that ttl, it only renews the lease, without a new revision or a watch event. Else it writes the
// instance on a new lease, whoever wrote it before; the end of the lease of the earlier writer then has no effect on the
// instance. A weight that SetWeight gave the instance stays until a heartbeat has another weight than those before.
//
// The error names every mistake of the arguments, or is ErrConflict or that of a request. After the error of a request,
// Lease is the new lease, if there is one; the instance may be on it or not. While etcd elects a leader, Heartbeat waits.
func (s *Services) Heartbeat(ctx context.Context, service string, in spec.Instance, ttl time.Duration) (Heartbeat, error) {
	c := etcdclient.NewWrite(s.cli)
	// Ask may repeat it, because a heartbeat that is repeated has the same effect.
	return etcdclient.Ask(ctx, c, func(ctx context.Context) (Heartbeat, error) { return s.heartbeat(ctx, service, in, ttl, nil) })
}

// errTakenOver means that the instance is on a lease that is not the caller's.
var errTakenOver = errors.New("taken over by another registration")

// registrant is the Registration that sends a heartbeat. It is nil for a call of Services.Heartbeat, which renews the leases
// of other such calls.
type registrant struct {
	owns   func(clientv3.LeaseID) bool // reports whether a lease is the registrant's own
	held   bool                        // it has registered the instance before, so it does not take it over from others
	weight int                         // that SetWeight gave the instance; 0 for none
}

// owned reports whether the instance in kv is on a lease that the registrant may renew.
func (who *registrant) owned(kv *mvccpb.KeyValue) bool {
	if who == nil {
		return NotesOf(kv.Value).Heartbeat
	}
	return who.owns(clientv3.LeaseID(kv.Lease))
}

// heartbeat is Heartbeat for a registrant. It writes nothing and fails with errTakenOver if the registrant has held the
// instance and that is on a lease of another now.
func (s *Services) heartbeat(ctx context.Context, service string, in spec.Instance, ttl time.Duration, who *registrant) (hb Heartbeat, err error) {
	if err := validateHeartbeat(service, in, ttl); err != nil {
		return Heartbeat{}, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("register %s of service %s: %w", in.Address, service, err)
		}
	}()
	key := ServiceKey(s.prefix, service, in.Address)
	granted := &lease{store: s, seconds: int64(ttl / time.Second)}
	for range etcdclient.MaxConflicts {
		kv, err := s.get(ctx, key)
		if err != nil {
			return granted.unused(ctx, err)
		}
		mine := kv != nil && who.owned(kv)
		if kv != nil && !mine && who != nil && who.held {
			return granted.unused(ctx, errTakenOver)
		}
		now := registering(in, kv, who)
		if mine {
			kept, err := s.keep(ctx, kv, now, granted)
			if err != nil {
				return granted.unused(ctx, err)
			}
			if kept {
				_, _ = granted.unused(ctx, nil)
				return Heartbeat{Outcome: match.Unchanged, Revision: kv.ModRevision, Lease: clientv3.LeaseID(kv.Lease), weight: now.setWeight()}, nil
			}
		}
		if err := granted.grant(ctx); err != nil {
			return Heartbeat{}, err
		}
		doc, err := now.encode()
		if err != nil {
			return granted.unused(ctx, err)
		}
		hb, err := s.put(ctx, key, kv, doc, granted.id)
		hb.weight = now.setWeight()
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound): // the new lease ran out already: etcd or this process was stopped for long
			granted.id = clientv3.NoLease
		case etcdclient.IsRefused(err): // so nothing is on the lease
			return granted.unused(ctx, err)
		case err != nil:
			return Heartbeat{Lease: granted.id}, err
		case hb.Outcome != "":
			return hb, nil
		}
	}
	return granted.unused(ctx, etcdclient.ErrConflict)
}

func validateHeartbeat(service string, in spec.Instance, ttl time.Duration) error {
	var errs []error
	if err := spec.ValidServiceName(service); err != nil {
		errs = append(errs, fmt.Errorf("service: %w", err))
	}
	if _, err := in.Encode(); err != nil {
		errs = append(errs, err)
	}
	if err := ValidateInstanceTTL(ttl); err != nil {
		errs = append(errs, fmt.Errorf("ttl: %w", err))
	}
	return errors.Join(errs...)
}

// get returns a key with its value, nil if it does not exist.
func (s *Services) get(ctx context.Context, key string) (*mvccpb.KeyValue, error) {
	resp, err := s.cli.Get(ctx, key)
	if err != nil || len(resp.Kvs) == 0 {
		return nil, err
	}
	return resp.Kvs[0], nil
}

// keep renews the lease of kv and reports true, if kv is the instance as it is to be written and its lease has the ttl of
// wanted. It grants wanted if etcd has to tell what it makes of that ttl.
func (s *Services) keep(ctx context.Context, kv *mvccpb.KeyValue, now noted, wanted *lease) (bool, error) {
	if kv.Lease == 0 {
		return false, nil
	}
	if held, err := spec.ParseInstance(kv.Value); err != nil || !held.Equal(now.Instance) || NotesOf(kv.Value) != now.Notes {
		return false, nil
	}
	renewed, err := s.cli.KeepAliveOnce(ctx, clientv3.LeaseID(kv.Lease))
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return false, nil
	case err != nil:
		return false, err
	case renewed.TTL <= wanted.seconds:
		return renewed.TTL == wanted.seconds, nil
	case renewed.TTL == s.raised.Load():
		return true, nil
	}
	// A longer lease is as good if etcd makes the wanted one as long.
	if err := wanted.grant(ctx); err != nil {
		return false, err
	}
	return renewed.TTL == wanted.got, nil
}

// put writes doc on a lease. If the key has changed since kv was read, it writes nothing, and the outcome is empty.
func (s *Services) put(ctx context.Context, key string, kv *mvccpb.KeyValue, doc []byte, id clientv3.LeaseID) (Heartbeat, error) {
	hb := Heartbeat{Outcome: match.Created, Lease: id}
	var seen int64
	if kv != nil {
		hb.Outcome, seen = match.Updated, kv.ModRevision
	}
	resp, err := s.cli.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", seen)).
		Then(clientv3.OpPut(key, string(doc), clientv3.WithLease(id))).
		Commit()
	if err != nil || !resp.Succeeded {
		return Heartbeat{}, err
	}
	hb.Revision = resp.Header.Revision
	return hb, nil
}

// lease is the new lease of a heartbeat, which is granted only if it is needed.
type lease struct {
	store   *Services
	seconds int64            // the wanted ttl
	id      clientv3.LeaseID // NoLease until granted
	got     int64            // the ttl in seconds that etcd gave it
}

// grant has etcd grant the lease, unless it has.
func (l *lease) grant(ctx context.Context) error {
	if l.id != clientv3.NoLease {
		return nil
	}
	resp, err := l.store.cli.Grant(ctx, l.seconds)
	if err != nil {
		return err
	}
	l.id, l.got = resp.ID, resp.TTL
	if l.got > l.seconds {
		l.store.raised.Store(l.got)
	}
	return nil
}

// unused revokes a lease that no key is on, if it was granted, and returns err. If it cannot be revoked, it runs out.
func (l *lease) unused(ctx context.Context, err error) (Heartbeat, error) {
	if l.id != clientv3.NoLease {
		_, _ = l.store.cli.Revoke(ctx, l.id)
	}
	return Heartbeat{}, err
}
