package etcdstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/spec"
)

// Bounds of the time that an instance stays registered without a heartbeat. etcd raises a shorter TTL to its own lower bound,
// which is 2 s by default.
const (
	MinInstanceTTL = time.Second
	MaxInstanceTTL = 24 * time.Hour
)

// ValidateInstanceTTL returns what is wrong with the time that an instance is to stay registered; nil if it is valid.
func ValidateInstanceTTL(ttl time.Duration) error {
	if ttl < MinInstanceTTL || ttl > MaxInstanceTTL || ttl%time.Second != 0 {
		return fmt.Errorf("%s, want whole seconds from %s to %s", ttl, MinInstanceTTL, MaxInstanceTTL)
	}
	return nil
}

// Services reads and writes the instances of services in etcd, in registry-etcd's layout: Kitex clients find the instances
// that it registers, and it finds those that Kitex servers register. It may be used by several goroutines, and beside other
// stores. Its requests last until they are answered or ctx ends.
type Services struct {
	// set once
	cli    *clientv3.Client
	prefix string

	// raised is the TTL, in seconds, that etcd gave a lease that wanted a shorter one; 0 if it has given none.
	raised atomic.Int64
}

// NewServices returns the store under a valid prefix. The caller closes cli after the last use.
func NewServices(cli *clientv3.Client, prefix string) *Services {
	return &Services{cli: cli, prefix: prefix}
}

// Deregister removes an instance, whoever registered it and also if its document is bad, and reports whether there was one.
// The address is as in its key; for an IPv6 address it removes both keys, with and without brackets. A Registration that
// still runs registers the instance again.
func (s *Services) Deregister(ctx context.Context, service, address string) (bool, error) {
	if IsForeign(s.prefix, service+"/"+address) {
		return false, fmt.Errorf("deregister %s of service %s: want an address as in the key of an instance", address, service)
	}
	whatever := func(context.Context, *mvccpb.KeyValue) ([]clientv3.Cmp, error) { return nil, nil }
	any := false
	for _, key := range s.keysOf(service, address) {
		c := etcdclient.NewWrite(s.cli)
		found, err := c.Remove(ctx, key, whatever)
		if err != nil {
			return any, serviceError("deregister", service, address, c, err)
		}
		any = any || found
	}
	return any, nil
}

// serviceError returns the error of a change of an instance that ended with err.
func serviceError(what, service, address string, c *etcdclient.Write, err error) error {
	if err = c.Failed("service", service, err); err == nil || errors.As(err, new(*etcdclient.UnknownOutcomeError)) {
		return err
	}
	return fmt.Errorf("%s %s of service %s: %w", what, address, service, err)
}

// RegisteredInstance is an instance as it is in etcd.
type RegisteredInstance struct {
	spec.Instance
	Key      string           // in etcd; Deregister takes the address in it, see SplitServiceKey
	Revision int64            // etcd's, of the last change of this instance
	Lease    clientv3.LeaseID // that the instance is attached to; 0 for none, so that it stays until it is removed
	TTL      time.Duration    // that its lease has left; 0 until FillTTL
}

// ServiceInstances has the instances of a service, sorted by address.
type ServiceInstances struct {
	Service   string
	Instances []RegisteredInstance // at least one
}

// InstanceError means that a document in etcd is no valid instance. Another client of etcd wrote it, because Services does
// not write such documents. Remove its key.
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

// List returns all services that have instances, sorted by name, and all documents under the prefix that are no valid
// instances, sorted by key.
func (s *Services) List(ctx context.Context) ([]ServiceInstances, []*InstanceError, error) {
	resp, err := s.cli.Get(ctx, ServiceKeys(s.prefix), clientv3.WithPrefix())
	if err != nil {
		return nil, nil, fmt.Errorf("list services: %w", err)
	}
	byName := map[string][]RegisteredInstance{}
	var bad []*InstanceError
	for _, kv := range resp.Kvs {
		if IsForeign(s.prefix, strings.TrimPrefix(string(kv.Key), ServiceKeys(s.prefix))) {
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

func (s *Services) parse(kv *mvccpb.KeyValue) (string, RegisteredInstance, error) {
	service, _, ok := SplitServiceKey(s.prefix, string(kv.Key))
	if !ok {
		return "", RegisteredInstance{}, fmt.Errorf("key: %q, want %s", kv.Key, ServiceKey(s.prefix, "SERVICE", "ADDRESS"))
	}
	in, err := spec.ParseInstance(kv.Value)
	return service, RegisteredInstance{Instance: in, Key: string(kv.Key), Revision: kv.ModRevision, Lease: clientv3.LeaseID(kv.Lease)}, err
}

// ttlRequests bounds the requests for leases that are under way at once.
const ttlRequests = 16

// FillTTL asks etcd how long the lease of each instance has left, and sets their TTL. It makes a request for each lease.
func (s *Services) FillTTL(ctx context.Context, services []ServiceInstances) error {
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

// keysOf returns the keys that an instance at an address may have: first the one that Heartbeat writes; then, for an IPv6
// address, the one without brackets that registry-etcd writes.
func (s *Services) keysOf(service, address string) []string {
	address = spec.Bracketed(address)
	keys := []string{ServiceKey(s.prefix, service, address)}
	if host, port, err := net.SplitHostPort(address); err == nil && strings.HasPrefix(address, "[") {
		keys = append(keys, ServiceKey(s.prefix, service, host+":"+port))
	}
	return keys
}
