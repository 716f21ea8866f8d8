package etcdstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/spec"
)

// SchemaKeys returns the text that the keys of all schemas start with.
func SchemaKeys(prefix string) string { return prefix + "/schemas/" }

// ParseSchema is schema.Parse for a document that is stored under name.
func ParseSchema(name string, doc []byte) (*schema.Schema, error) {
	if err := spec.ValidateName(name); err != nil {
		return nil, fmt.Errorf("name: %w", err)
	}
	return schema.Parse(doc)
}

// Schemas reads and writes the schemas in etcd, each as a FileDescriptorSet under <prefix>/schemas/<name>. It may be
// used by several goroutines. Its requests last until they are answered or ctx ends.
type Schemas struct {
	cli    *clientv3.Client
	keys   string // see SchemaKeys
	routes *Routes
}

// NewSchemas returns the store under a valid prefix. compile checks the routes that use a schema. The caller closes
// cli after the last use.
func NewSchemas(cli *clientv3.Client, prefix string, compile resolver.Compiler) *Schemas {
	return &Schemas{cli: cli, keys: SchemaKeys(prefix), routes: NewRoutes(cli, prefix, compile)}
}

// StoredSchema is a schema as it is in etcd.
type StoredSchema struct {
	Name     string
	Schema   *schema.Schema // nil if the document is bad
	Revision int64          // etcd's, of the last change of this schema
	Err      error          // what is wrong with the document; nil if it is good
}

// readSchema returns the schema in the value of a key, which starts with keys.
func readSchema(keys string, kv *mvccpb.KeyValue) StoredSchema {
	st := StoredSchema{Name: strings.TrimPrefix(string(kv.Key), keys), Revision: kv.ModRevision}
	st.Schema, st.Err = ParseSchema(st.Name, kv.Value)
	return st
}

// Get returns the schema of that name. The error is ErrNotFound or that of the request.
func (s *Schemas) Get(ctx context.Context, name string) (StoredSchema, error) {
	resp, err := s.cli.Get(ctx, s.keys+name)
	if err != nil {
		return StoredSchema{}, fmt.Errorf("get schema %s: %w", name, err)
	}
	if len(resp.Kvs) == 0 {
		return StoredSchema{}, fmt.Errorf("schema %s: %w", name, ErrNotFound)
	}
	return readSchema(s.keys, resp.Kvs[0]), nil
}

// List returns all schemas, sorted by name.
func (s *Schemas) List(ctx context.Context) ([]StoredSchema, error) {
	resp, err := s.cli.Get(ctx, s.keys, clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("list schemas: %w", err)
	}
	all := make([]StoredSchema, len(resp.Kvs))
	for i, kv := range resp.Kvs {
		all[i] = readSchema(s.keys, kv)
	}
	return all, nil
}

// Put stores a schema under a valid name, if every route in etcd that uses it fits it; the error names the routes and rules
// that do not. A route that does not fit the stored schema either does not count: another client of etcd wrote it, and the
// new schema makes it no worse.
func (s *Schemas) Put(ctx context.Context, name string, doc *schema.Schema) (PutResult, error) {
	if err := spec.ValidateName(name); err != nil {
		return PutResult{}, fmt.Errorf("put schema: name: %w", err)
	}
	encoded := doc.Encode()
	if len(encoded) > schema.MaxBytes {
		return PutResult{}, fmt.Errorf("put schema %s: %d bytes, want at most %d", name, len(encoded), schema.MaxBytes)
	}
	p := &schemaPut{Write: etcdclient.NewWrite(s.cli), store: s, name: name, schema: doc, encoded: encoded}
	err := etcdclient.ErrConflict
	for conflicts := 0; conflicts < etcdclient.MaxConflicts; {
		result, stored, failure := p.try(ctx)
		switch {
		case failure == nil && stored:
			return result, nil
		case failure == nil:
			conflicts++
			continue
		case p.Again(ctx, failure):
			continue
		}
		err = failure
		break
	}
	return PutResult{}, schemaError("put", name, p.Write, err)
}

// schemaError returns the error of a change of a schema that ended with err.
func schemaError(what, name string, c *etcdclient.Write, err error) error {
	if err = c.Failed("schema", name, err); err == nil || errors.As(err, new(*etcdclient.UnknownOutcomeError)) {
		return err
	}
	return fmt.Errorf("%s schema %s: %w", what, name, err)
}

// schemaPut is one call of Schemas.Put.
type schemaPut struct {
	*etcdclient.Write
	store   *Schemas
	name    string
	schema  *schema.Schema
	encoded []byte
	sent    PutResult // the result if the last try has an effect
}

// try stores the schema, in one try. If another client changed the schema or a route between its read and its write, it
// stores nothing and returns false.
func (p *schemaPut) try(ctx context.Context) (PutResult, bool, error) {
	s, key := p.store, p.store.keys+p.name
	before, err := p.Read(ctx, clientv3.OpGet(key), clientv3.OpGet(s.routes.keys, clientv3.WithPrefix()))
	if err != nil {
		return PutResult{}, false, err
	}
	result := PutResult{Name: p.name, Outcome: match.Created}
	fits := func(*spec.Route) bool { return false } // reports whether a route fits the stored schema
	if kvs := before.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
		result.Outcome, result.Revision = match.Updated, kvs[0].ModRevision
		if bytes.Equal(kvs[0].Value, p.encoded) {
			result.Outcome = match.Unchanged
			if p.Unsure && result.Revision != p.sent.Revision { // a try that was not answered has stored it
				result.Outcome = p.sent.Outcome
			}
			return result, true, nil
		}
		stored := readSchema(s.keys, kvs[0])
		fits = func(r *spec.Route) bool {
			if stored.Err != nil {
				return true // the route may fit an earlier good version, which may be in force
			}
			_, err := s.routes.compile.Bind(r, stored.Schema)
			return err == nil
		}
	}
	var errs []error
	for _, r := range s.users(p.name, before.Responses[1].GetResponseRange().Kvs) {
		if _, err := s.routes.compile.Bind(r, p.schema); err != nil && fits(r) {
			errs = append(errs, fmt.Errorf("route %s: %w", r.Name, err))
		}
	}
	if err := invalid(errs); err != nil {
		return PutResult{}, false, err
	}
	p.sent = result
	after, err := p.Commit(ctx, []clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(key), "=", result.Revision), s.routesSince(before.Header.Revision),
	}, clientv3.OpPut(key, string(p.encoded)))
	if err != nil || !after.Succeeded {
		return PutResult{}, false, err
	}
	result.Revision = after.Header.Revision
	return result, true, nil
}

// routesSince returns a condition that holds if no route was written after that revision.
func (s *Schemas) routesSince(revision int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(s.routes.keys).WithPrefix(), "<", revision+1)
}

// users returns the valid routes in the values of keys that use a schema.
func (s *Schemas) users(name string, routes []*mvccpb.KeyValue) (users []*spec.Route) {
	for _, kv := range routes {
		if r, bad := s.routes.read(kv); bad == nil && r.Route.SchemaName() == name {
			users = append(users, r.Route)
		}
	}
	return users
}

// ErrSchemaInUse means that a schema cannot be deleted, because routes use it. Change or delete them first.
var ErrSchemaInUse = errors.New("in use")

// Delete removes the schema of that name, also if its document is bad, and reports whether there was one. The error is an
// ErrSchemaInUse if a route in etcd uses it.
func (s *Schemas) Delete(ctx context.Context, name string) (bool, error) {
	c := etcdclient.NewWrite(s.cli)
	found, err := c.Remove(ctx, s.keys+name, func(ctx context.Context, _ *mvccpb.KeyValue) ([]clientv3.Cmp, error) {
		routes, err := c.Read(ctx, clientv3.OpGet(s.routes.keys, clientv3.WithPrefix()))
		if err != nil {
			return nil, err
		}
		if users := s.users(name, routes.Responses[0].GetResponseRange().Kvs); len(users) > 0 {
			return nil, fmt.Errorf("%w by route %s", ErrSchemaInUse, users[0].Name)
		}
		return []clientv3.Cmp{s.routesSince(routes.Header.Revision)}, nil
	})
	return found, schemaError("delete", name, c, err)
}
