package etcdstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
)

// MaxPutRoutes bounds the routes, and the schemas that they name, in one PutAll. It is etcd's default bound on the operations
// in a transaction (--max-txn-ops).
const MaxPutRoutes = 128

// WriteOption is a condition on Put, PutAll, Delete and Plan.
type WriteOption func(*writeConditions)

// writeConditions has the conditions of a write.
type writeConditions struct {
	conditional bool
	revision    int64 // that every route must be at, if conditional
}

// IfRevision makes a write conditional: each route that is written or deleted must be at that revision, as in StoredRoute, or
// must not exist if it is 0. Else nothing is written, and the error is a *ConflictError, or several joined.
func IfRevision(revision int64) WriteOption {
	return func(c *writeConditions) { c.conditional, c.revision = true, revision }
}

func conditionsOf(opts []WriteOption) writeConditions {
	var c writeConditions
	for _, set := range opts {
		set(&c)
	}
	return c
}

// check returns a *ConflictError unless a route may be written that is at revision got, 0 if it does not exist.
func (c writeConditions) check(name string, got int64) error {
	if c.conditional && got != c.revision {
		return &etcdclient.ConflictError{Name: name, Want: c.revision, Got: got}
	}
	return nil
}

// PutResult is the result of a put for one route or schema.
type PutResult struct {
	Name     string
	Outcome  match.Outcome
	Revision int64 // of its last change
}

// Put stores one route.
func (s *Routes) Put(ctx context.Context, r *spec.Route, opts ...WriteOption) (PutResult, error) {
	results, err := s.PutAll(ctx, []*spec.Route{r}, opts...)
	if err != nil {
		return PutResult{}, err
	}
	return results[0], nil
}

// PutAll stores all the routes in one transaction, or none. Their names must differ. The results are in the order of
// the routes.
func (s *Routes) PutAll(ctx context.Context, routes []*spec.Route, opts ...WriteOption) ([]PutResult, error) {
	if len(routes) == 0 {
		return nil, nil
	}
	docs, err := encodeAll(routes)
	if err != nil {
		return nil, err
	}
	p := &put{Write: etcdclient.NewWrite(s.cli), store: s, routes: routes, docs: docs, want: conditionsOf(opts)}
	for conflicts := 0; conflicts < etcdclient.MaxConflicts; {
		results, err := p.try(ctx)
		switch {
		case err == nil && results != nil:
			return results, nil
		case err == nil:
			conflicts++
		case !p.Again(ctx, err):
			return nil, p.error(err)
		}
	}
	return nil, p.error(etcdclient.ErrConflict)
}

// encodeAll returns the documents of routes. The error says why they cannot be put at once, for instance because a document
// cannot be parsed again.
func encodeAll(routes []*spec.Route) ([][]byte, error) {
	if len(routes) > MaxPutRoutes {
		return nil, fmt.Errorf("put %d routes at once: want at most %d, so that all or none are stored", len(routes), MaxPutRoutes)
	}
	docs := make([][]byte, len(routes))
	names := make(map[string]bool, len(routes))
	var errs []error
	for i, r := range routes {
		if names[r.Name] {
			errs = append(errs, fmt.Errorf("route %s: given twice", r.Name))
		}
		names[r.Name] = true
		doc, err := r.Encode()
		if err == nil {
			_, err = ParseRoute(r.Name, doc)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("route %s: %w", r.Name, err))
		}
		docs[i] = doc
	}
	return docs, invalid(errs)
}

// fit checks that the routes fit the schemas in etcd that they name. It returns conditions that hold as long as these schemas
// do not change.
func (s *Routes) fit(ctx context.Context, c *etcdclient.Write, routes []*spec.Route) ([]clientv3.Cmp, error) {
	schemas := map[string]*StoredSchema{} // nil for one that is not in etcd
	var reads []clientv3.Op
	var names []string
	for _, r := range routes {
		name := r.SchemaName()
		if _, seen := schemas[name]; name == "" || seen {
			continue
		}
		schemas[name] = nil
		names = append(names, name)
		reads = append(reads, clientv3.OpGet(s.schemas+name))
	}
	var same []clientv3.Cmp
	if len(reads) > 0 {
		resp, err := c.Read(ctx, reads...)
		if err != nil {
			return nil, fmt.Errorf("get schema %s: %w", names[0], err)
		}
		for i, name := range names {
			var revision int64
			if kvs := resp.Responses[i].GetResponseRange().Kvs; len(kvs) > 0 {
				st := readSchema(s.schemas, kvs[0])
				revision, schemas[name] = st.Revision, &st
			}
			same = append(same, clientv3.Compare(clientv3.ModRevision(s.schemas+name), "=", revision))
		}
	}
	if len(routes)+len(same) > MaxPutRoutes {
		return nil, invalid([]error{fmt.Errorf("put %d routes with %d schemas at once: want at most %d together", len(routes), len(same), MaxPutRoutes)})
	}
	var errs []error
	for _, r := range routes {
		if err := s.fits(r, schemas[r.SchemaName()]); err != nil {
			errs = append(errs, fmt.Errorf("route %s: %w", r.Name, err))
		}
	}
	return same, invalid(errs)
}

// fits checks that a route fits its schema, if it names one.
func (s *Routes) fits(r *spec.Route, st *StoredSchema) error {
	name := r.SchemaName()
	switch {
	case name == "":
		_, err := s.compile.Bind(r, nil)
		return err
	case st == nil:
		return resolver.MissingSchema(name)
	case st.Err != nil:
		return fmt.Errorf("schema.name: %q: bad document in etcd: %w", name, st.Err)
	}
	_, err := s.compile.Bind(r, st.Schema)
	return err
}

// put is one call of PutAll.
type put struct {
	*etcdclient.Write
	store  *Routes
	routes []*spec.Route
	docs   [][]byte
	want   writeConditions
	sent   []PutResult // the results if the last try has an effect; nil before a try was sent
}

// error returns the error of a put that ended with err.
func (p *put) error(err error) error {
	var conflict *etcdclient.ConflictError
	var invalid *InvalidError
	name := p.routes[0].Name
	if len(p.routes) > 1 {
		name = ""
	}
	switch {
	case errors.As(err, &conflict): // names the routes already
		return err
	case errors.As(err, &invalid) && !p.Unsure:
		return err
	}
	if err = p.Failed("route", name, err); errors.As(err, new(*etcdclient.UnknownOutcomeError)) {
		return err
	}
	what := "put route " + name
	if name == "" {
		what = fmt.Sprintf("put %d routes", len(p.routes))
	}
	if etcdclient.IsTooLarge(err) {
		return fmt.Errorf("%s: %d bytes, more than this etcd takes at once; put fewer routes at a time: %w",
			what, len(bytes.Join(p.docs, nil)), err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// try stores the routes, in one try. If another client changed one of them, or a schema that they name, between its read and
// its write, it stores nothing and returns neither results nor an error.
func (p *put) try(ctx context.Context) ([]PutResult, error) {
	unchanged, err := p.store.fit(ctx, p.Write, p.routes)
	if err != nil {
		return nil, err
	}
	reads := make([]clientv3.Op, len(p.routes))
	for i, r := range p.routes {
		reads[i] = clientv3.OpGet(p.store.keys + r.Name)
	}
	before, err := p.Read(ctx, reads...)
	if err != nil {
		return nil, err
	}
	if p.Unsure && p.took(before) {
		return p.sent, nil
	}
	results := make([]PutResult, len(p.routes))
	var writes []clientv3.Op
	var conflicts []error
	for i, r := range p.routes {
		key := p.store.keys + r.Name
		results[i] = PutResult{Name: r.Name, Outcome: match.Created}
		if kvs := before.Responses[i].GetResponseRange().Kvs; len(kvs) > 0 {
			results[i].Outcome, results[i].Revision = match.Updated, kvs[0].ModRevision
			if bytes.Equal(kvs[0].Value, p.docs[i]) {
				results[i].Outcome = match.Unchanged
			}
		}
		conflicts = append(conflicts, p.want.check(r.Name, results[i].Revision))
		unchanged = append(unchanged, clientv3.Compare(clientv3.ModRevision(key), "=", results[i].Revision))
		if results[i].Outcome != match.Unchanged {
			writes = append(writes, clientv3.OpPut(key, string(p.docs[i])))
		}
	}
	if err := errors.Join(conflicts...); err != nil {
		return nil, err
	}
	if len(writes) == 0 {
		return results, nil
	}
	p.sent = results
	after, err := p.Commit(ctx, unchanged, writes...)
	if err != nil || !after.Succeeded {
		return nil, err
	}
	p.stored(after.Header.Revision)
	return results, nil
}

// took reports whether a try that was not answered has stored the routes. now has their documents as they are now.
func (p *put) took(now *clientv3.TxnResponse) bool {
	var revision int64
	for i, r := range p.sent {
		kvs := now.Responses[i].GetResponseRange().Kvs
		switch {
		case len(kvs) == 0 || !bytes.Equal(kvs[0].Value, p.docs[i]):
			return false
		case r.Outcome == match.Unchanged:
			continue
		case kvs[0].ModRevision == r.Revision || revision != 0 && kvs[0].ModRevision != revision:
			return false
		}
		revision = kvs[0].ModRevision
	}
	p.stored(revision)
	return true
}

// stored sets the revision at which the last try stored the routes.
func (p *put) stored(revision int64) {
	for i := range p.sent {
		if p.sent[i].Outcome != match.Unchanged {
			p.sent[i].Revision = revision
		}
	}
}

// Delete removes the route of that name, also if its document is bad, and reports whether there was one. With IfRevision, a
// route that is at another revision stays, and the error is a *ConflictError.
func (s *Routes) Delete(ctx context.Context, name string, opts ...WriteOption) (bool, error) {
	want := conditionsOf(opts)
	c := etcdclient.NewWrite(s.cli)
	found, err := c.Remove(ctx, s.keys+name, func(_ context.Context, kv *mvccpb.KeyValue) ([]clientv3.Cmp, error) {
		return nil, want.check(name, kv.ModRevision)
	})
	if err = c.Failed("route", name, err); err != nil && !errors.As(err, new(*etcdclient.ConflictError)) && !errors.As(err, new(*etcdclient.UnknownOutcomeError)) {
		err = fmt.Errorf("delete route %s: %w", name, err)
	}
	return found, err
}
