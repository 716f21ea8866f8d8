package etcdstore

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
)

// Plan returns what PutAll of change.Put, and then the deletions, would do now. It writes nothing, and fails as they would.
// It leaves out the calls of routes whose document in etcd is bad, although a framegate may have an earlier version in
// force.
func (s *Routes) Plan(ctx context.Context, change match.Change, opts ...WriteOption) (*match.Plan, error) {
	docs, err := encodeAll(change.Put)
	if err != nil {
		return nil, err
	}
	if _, err := s.fit(ctx, etcdclient.NewWrite(s.cli), change.Put); err != nil {
		return nil, err
	}
	kvs, err := s.all(ctx)
	if err != nil {
		return nil, err
	}
	var now []*spec.Route
	stored := map[string][]byte{}
	revisions := map[string]int64{}
	for _, kv := range kvs {
		name := s.nameOf(kv)
		stored[name], revisions[name] = kv.Value, kv.ModRevision
		if r, bad := s.read(kv); bad == nil {
			now = append(now, r.Route)
		}
	}
	p := match.NewPlan(now, change)
	want := conditionsOf(opts)
	var conflicts []error
	for i := range p.Routes {
		r := &p.Routes[i]
		r.Revision = revisions[r.Name]
		isPut := i < len(docs)
		if isPut || r.Revision > 0 {
			conflicts = append(conflicts, want.check(r.Name, r.Revision))
		}
		switch { // compared as documents, since other clients may write bad ones, or others than Encode
		case r.Revision == 0:
		case !isPut:
			r.Outcome = match.Deleted
		case !bytes.Equal(stored[r.Name], docs[i]):
			r.Outcome = match.Updated
		}
	}
	if err := errors.Join(conflicts...); err != nil {
		return nil, err
	}
	return p, nil
}

// Bypasses returns the bypasses that would come with the routes put, beside the routes that are in etcd now.
func (s *Routes) Bypasses(ctx context.Context, put []*spec.Route) ([]match.Bypass, error) {
	kvs, err := s.all(ctx)
	if err != nil {
		return nil, err
	}
	var wanted []match.Destination
	for _, r := range put {
		for i := range r.Backends {
			wanted = slices.AppendSeq(wanted, match.DestinationsOf(&r.Backends[i]))
		}
	}
	var now []*spec.Route
	for _, kv := range kvs {
		doc := bytes.ToLower(kv.Value)
		if !slices.ContainsFunc(wanted, func(t match.Destination) bool { return t.MayBeIn(doc) }) {
			continue // because parsing takes much longer than seeing that a document has no destination in common with put
		}
		if r, bad := s.read(kv); bad == nil {
			now = append(now, r.Route)
		}
	}
	return match.Bypasses(now, put), nil
}
