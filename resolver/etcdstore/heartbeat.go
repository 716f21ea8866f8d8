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

// Heartbeat is what a heartbeat did.
type Heartbeat struct {
	Outcome  match.Outcome
	Revision int64            // of the last change of the instance
	Lease    clientv3.LeaseID // that the instance is on

	weight int // that SetWeight gave the instance; 0 for none
}

// Heartbeat registers an instance for ttl, or keeps it registered for ttl from now. If an earlier one has put the same
// instance on a lease of that ttl, only the lease is renewed: there is no new revision and no watch event. Otherwise the
// instance is written on a new lease, whoever wrote it before: what that one does with its own lease, which may run out or
// be revoked, is nothing to it any more. A weight that SetWeight gave the instance stays until a heartbeat has another
// weight than those before.
//
// The error names every mistake of the arguments, or is ErrConflict or that of a request. After the error of a request,
// Lease is the new lease, if there is one: the instance may be on it or not. While etcd elects a leader, it waits.
func (s *Services) Heartbeat(ctx context.Context, service string, in spec.Instance, ttl time.Duration) (Heartbeat, error) {
	c := etcdclient.NewWrite(s.cli)
	return etcdclient.Ask(ctx, c, func(ctx context.Context) (Heartbeat, error) { return s.heartbeat(ctx, service, in, ttl, nil) }) // twice is as once
}

// errTakenOver means that the instance is on a lease that is not the caller's.
var errTakenOver = errors.New("taken over by another registration")

// registrant is who keeps an instance registered and knows which leases are its own. A heartbeat of nobody in particular,
// nil, renews the lease of another such one.
type registrant struct {
	owns   func(clientv3.LeaseID) bool
	held   bool // it was registered before: it takes nothing over from others
	weight int  // that SetWeight gave the instance; 0 for none
}

// owned reports whether the instance that a key holds is on a lease that who may renew.
func (who *registrant) owned(kv *mvccpb.KeyValue) bool {
	if who == nil {
		return NotesOf(kv.Value).Heartbeat
	}
	return who.owns(clientv3.LeaseID(kv.Lease))
}

// heartbeat is Heartbeat of a registrant. It fails with errTakenOver, having written nothing, if the instance that who held
// is on another's lease.
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
		case errors.Is(err, rpctypes.ErrLeaseNotFound): // it ran out: somebody, or this process, was stopped for long
			granted.id = clientv3.NoLease
		case etcdclient.IsRefused(err): // nothing is on the lease
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

// get returns what key holds, nil if nothing.
func (s *Services) get(ctx context.Context, key string) (*mvccpb.KeyValue, error) {
	resp, err := s.cli.Get(ctx, key)
	if err != nil || len(resp.Kvs) == 0 {
		return nil, err
	}
	return resp.Kvs[0], nil
}

// keep renews the lease that kv is on and reports true, if kv is the instance and its lease has the seconds of wanted.
// It grants wanted if only etcd can tell.
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
	// A longer lease is the same if it is what etcd makes of the wanted one.
	if err := wanted.grant(ctx); err != nil {
		return false, err
	}
	return renewed.TTL == wanted.got, nil
}

// put writes doc on a lease. The outcome is empty, and nothing was written, if the key is not as in kv any more.
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

// lease is one that a heartbeat grants if it needs one.
type lease struct {
	store   *Services
	seconds int64            // wanted
	id      clientv3.LeaseID // NoLease until granted
	got     int64            // seconds that etcd made of it
}

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

// unused gives a lease back that no key is on, and passes err on. If that fails, it runs out.
func (l *lease) unused(ctx context.Context, err error) (Heartbeat, error) {
	if l.id != clientv3.NoLease {
		_, _ = l.store.cli.Revoke(ctx, l.id)
	}
	return Heartbeat{}, err
}
