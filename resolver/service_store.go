package resolver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Bounds of the time that an instance stays registered without a heartbeat. etcd raises what is less than its own least
// lease, 2 s as it comes.
const (
	MinInstanceTTL = time.Second
	MaxInstanceTTL = 24 * time.Hour
)

// ValidateInstanceTTL reports what is wrong with the time that an instance is to stay registered.
func ValidateInstanceTTL(ttl time.Duration) error {
	if ttl < MinInstanceTTL || ttl > MaxInstanceTTL || ttl%time.Second != 0 {
		return fmt.Errorf("%s, want whole seconds from %s to %s", ttl, MinInstanceTTL, MaxInstanceTTL)
	}
	return nil
}

// ServiceStore reads and writes the instances of services in etcd, in the layout of registry-etcd: Kitex clients find
// what it registers, and it finds what Kitex servers register. It may be used by several goroutines, and beside other
// stores. Its requests last until they are answered or ctx ends.
type ServiceStore struct {
	// set once
	cli    *clientv3.Client
	prefix string

	// raised is the seconds that etcd made of a shorter lease; 0 if it was not seen to do so.
	raised atomic.Int64
}

// NewServiceStore returns the store under a valid prefix. The caller closes cli after the last use.
func NewServiceStore(cli *clientv3.Client, prefix string) *ServiceStore {
	return &ServiceStore{cli: cli, prefix: prefix}
}

// Heartbeat is what a heartbeat did.
type Heartbeat struct {
	Outcome  Outcome
	Revision int64            // of the last change of the instance
	Lease    clientv3.LeaseID // that the instance is on
}

// Heartbeat registers an instance for ttl, or keeps it registered for ttl from now. If etcd has the same instance on a
// lease of that ttl, only the lease is renewed: there is no new revision and no watch event. Otherwise the instance is
// written on a new lease, whoever wrote it before; an old lease runs out.
//
// The error names every mistake of the arguments, or is ErrConflict or that of a request. After the error of a request,
// Lease is the new lease, if there is one: the instance may be on it or not. While etcd elects a leader, it waits.
func (s *ServiceStore) Heartbeat(ctx context.Context, service string, in Instance, ttl time.Duration) (Heartbeat, error) {
	c := newChange(s.cli)
	return ask(ctx, c, func(ctx context.Context) (Heartbeat, error) { return s.heartbeat(ctx, service, in, ttl, nil) }) // twice is as once
}

// errTakenOver means that the instance is on a lease that is not the caller's.
var errTakenOver = errors.New("taken over by another registration")

// heartbeat is Heartbeat that fails with errTakenOver, having written nothing, if mine refuses the lease that the
// instance is on. A nil mine takes any.
func (s *ServiceStore) heartbeat(ctx context.Context, service string, in Instance, ttl time.Duration, mine func(clientv3.LeaseID) bool) (hb Heartbeat, err error) {
	doc, err := heartbeatDocument(service, in, ttl)
	if err != nil {
		return Heartbeat{}, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("register %s of service %s: %w", in.Address, service, err)
		}
	}()
	key := ServiceKey(s.prefix, service, in.Address)
	granted := &lease{store: s, seconds: int64(ttl / time.Second)}
	for range putAttempts {
		kv, err := s.get(ctx, key)
		if err != nil {
			return granted.unused(ctx, err)
		}
		if kv != nil && mine != nil && !mine(clientv3.LeaseID(kv.Lease)) {
			return granted.unused(ctx, errTakenOver)
		}
		kept, err := s.keep(ctx, kv, in, granted)
		if err != nil {
			return granted.unused(ctx, err)
		}
		if kept {
			_, _ = granted.unused(ctx, nil)
			return Heartbeat{Outcome: Unchanged, Revision: kv.ModRevision, Lease: clientv3.LeaseID(kv.Lease)}, nil
		}
		if err := granted.grant(ctx); err != nil {
			return Heartbeat{}, err
		}
		hb, err := s.put(ctx, key, kv, doc, granted.id)
		switch {
		case errors.Is(err, rpctypes.ErrLeaseNotFound): // it ran out: somebody, or this process, was stopped for long
			granted.id = clientv3.NoLease
		case isRefused(err): // nothing is on the lease
			return granted.unused(ctx, err)
		case err != nil:
			return Heartbeat{Lease: granted.id}, err
		case hb.Outcome != "":
			return hb, nil
		}
	}
	return granted.unused(ctx, ErrConflict)
}

func heartbeatDocument(service string, in Instance, ttl time.Duration) ([]byte, error) {
	var errs []error
	if err := ValidServiceName(service); err != nil {
		errs = append(errs, fmt.Errorf("service: %w", err))
	}
	doc, err := in.encode()
	if err != nil {
		errs = append(errs, err)
	}
	if err := ValidateInstanceTTL(ttl); err != nil {
		errs = append(errs, fmt.Errorf("ttl: %w", err))
	}
	return doc, errors.Join(errs...)
}

// get returns what key holds, nil if nothing.
func (s *ServiceStore) get(ctx context.Context, key string) (*mvccpb.KeyValue, error) {
	resp, err := s.cli.Get(ctx, key)
	if err != nil || len(resp.Kvs) == 0 {
		return nil, err
	}
	return resp.Kvs[0], nil
}

// keep renews the lease that kv is on and reports true, if kv is the instance and its lease has the seconds of wanted.
// It grants wanted if only etcd can tell.
func (s *ServiceStore) keep(ctx context.Context, kv *mvccpb.KeyValue, in Instance, wanted *lease) (bool, error) {
	if kv == nil || kv.Lease == 0 {
		return false, nil
	}
	if held, err := ParseInstance(kv.Value); err != nil || !held.equal(in) {
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
func (s *ServiceStore) put(ctx context.Context, key string, kv *mvccpb.KeyValue, doc []byte, id clientv3.LeaseID) (Heartbeat, error) {
	hb := Heartbeat{Outcome: Created, Lease: id}
	var seen int64
	if kv != nil {
		hb.Outcome, seen = Updated, kv.ModRevision
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
	store   *ServiceStore
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

// Deregister removes an instance, whoever registered it, or a bad document, and reports whether there was one. The
// address is as in its key. A Registration that still runs registers it again.
func (s *ServiceStore) Deregister(ctx context.Context, service, address string) (bool, error) {
	if isForeign(s.prefix, service+"/"+address) {
		return false, fmt.Errorf("deregister %s of service %s: want an address as in the key of an instance", address, service)
	}
	c := newChange(s.cli)
	found, err := c.remove(ctx, ServiceKey(s.prefix, service, address), func(context.Context, *mvccpb.KeyValue) ([]clientv3.Cmp, error) { return nil, nil })
	return found, serviceError("deregister", service, address, c, err)
}

// serviceError is the error of a change of an instance that err ends.
func serviceError(what, service, address string, c *change, err error) error {
	if err = c.failed("service", service, err); err == nil || errors.As(err, new(*UnknownOutcomeError)) {
		return err
	}
	return fmt.Errorf("%s %s of service %s: %w", what, address, service, err)
}

// release removes an instance if it is on that lease.
func (s *ServiceStore) release(ctx context.Context, service string, in Instance, id clientv3.LeaseID) error {
	s.sayLeaving(ctx, service, in, id)
	key := ServiceKey(s.prefix, service, in.Address)
	_, err := s.cli.Txn(ctx).If(clientv3.Compare(clientv3.LeaseValue(key), "=", id)).Then(clientv3.OpDelete(key)).Commit()
	return err
}

// RegisteredInstance is an instance as it is in etcd.
type RegisteredInstance struct {
	Instance
	Key      string           // its key; Deregister takes the address in it, see SplitServiceKey
	Revision int64            // etcd's, of the last change of this instance
	Lease    clientv3.LeaseID // 0: it stays until it is removed
	TTL      time.Duration    // that its lease has left; 0 until FillTTL
}

// ServiceInstances are the instances of a service, by address.
type ServiceInstances struct {
	Service   string
	Instances []RegisteredInstance // at least one
}

// InstanceError is a document in etcd that is no instance. Somebody else put it there: ServiceStore does not write such
// a thing. Remove its key.
type InstanceError struct {
	Key      string
	Revision int64 // of its last change
	Err      error
}

func (e *InstanceError) Error() string {
	return fmt.Sprintf("instance %s: bad document at revision %d: %v", e.Key, e.Revision, e.Err)
}

// Unwrap returns what is wrong with the document.
func (e *InstanceError) Unwrap() error { return e.Err }

// List returns all services that have instances, by name, and all documents under the prefix that are no instances, by
// key.
func (s *ServiceStore) List(ctx context.Context) ([]ServiceInstances, []*InstanceError, error) {
	resp, err := s.cli.Get(ctx, serviceKeys(s.prefix), clientv3.WithPrefix())
	if err != nil {
		return nil, nil, fmt.Errorf("list services: %w", err)
	}
	byName := map[string][]RegisteredInstance{}
	var bad []*InstanceError
	for _, kv := range resp.Kvs {
		if isForeign(s.prefix, strings.TrimPrefix(string(kv.Key), serviceKeys(s.prefix))) {
			continue
		}
		service, in, err := s.parse(kv)
		if err != nil {
			bad = append(bad, &InstanceError{Key: string(kv.Key), Revision: kv.ModRevision, Err: err})
			continue
		}
		byName[service] = append(byName[service], in)
	}
	services := make([]ServiceInstances, 0, len(byName))
	for name, instances := range byName {
		slices.SortStableFunc(instances, func(a, b RegisteredInstance) int { return cmp.Compare(a.Address, b.Address) })
		services = append(services, ServiceInstances{Service: name, Instances: instances})
	}
	slices.SortFunc(services, func(a, b ServiceInstances) int { return cmp.Compare(a.Service, b.Service) })
	return services, bad, nil
}

func (s *ServiceStore) parse(kv *mvccpb.KeyValue) (string, RegisteredInstance, error) {
	service, _, ok := SplitServiceKey(s.prefix, string(kv.Key))
	if !ok {
		return "", RegisteredInstance{}, fmt.Errorf("key: %q, want %s", kv.Key, ServiceKey(s.prefix, "SERVICE", "ADDRESS"))
	}
	in, err := ParseInstance(kv.Value)
	return service, RegisteredInstance{Instance: in, Key: string(kv.Key), Revision: kv.ModRevision, Lease: clientv3.LeaseID(kv.Lease)}, err
}

// ttlRequests is how many questions for a lease are under way at once.
const ttlRequests = 16

// FillTTL asks etcd how long the lease of each instance has left. That is a request for each lease.
func (s *ServiceStore) FillTTL(ctx context.Context, services []ServiceInstances) error {
	left := map[clientv3.LeaseID]time.Duration{}
	for _, service := range services {
		for _, in := range service.Instances {
			left[in.Lease] = 0
		}
	}
	delete(left, clientv3.NoLease)
	ids := make(chan clientv3.LeaseID, len(left))
	for id := range left {
		ids <- id
	}
	close(ids)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex // guards left
	var askers sync.WaitGroup
	for range min(ttlRequests, len(left)) {
		askers.Go(func() {
			for id := range ids {
				resp, err := s.cli.TimeToLive(ctx, id)
				if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
					cancel(fmt.Errorf("time to live of a lease: %w", err))
					return
				}
				if err == nil && resp.TTL > 0 {
					mu.Lock()
					left[id] = time.Duration(resp.TTL) * time.Second
					mu.Unlock()
				}
			}
		})
	}
	askers.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, service := range services {
		for i := range service.Instances {
			service.Instances[i].TTL = left[service.Instances[i].Lease]
		}
	}
	return nil
}
