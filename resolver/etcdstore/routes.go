package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/spec"
)

// DefaultPrefix is the default prefix of framegate's keys in etcd.
const DefaultPrefix = "/framegate"

// ErrNotFound means that etcd has no route, schema or instance of that name. List returns those that it has.
var ErrNotFound = errors.New("not found")

// ValidatePrefix returns what is wrong with a prefix of keys; nil if it is valid.
func ValidatePrefix(prefix string) error {
	if !strings.HasPrefix(prefix, "/") || strings.HasSuffix(prefix, "/") || strings.ContainsAny(prefix, " \t\r\n\x00") {
		return fmt.Errorf("%q, want /name without a slash at its end", prefix)
	}
	return nil
}

// RouteKeys returns the text that the keys of all routes start with.
func RouteKeys(prefix string) string { return prefix + "/routes/" }

// ParseRoute is spec.ParseRoute for a document that is stored under name.
func ParseRoute(name string, doc []byte) (*spec.Route, error) {
	r, err := spec.ParseRoute(doc)
	if err != nil {
		return nil, err
	}
	if r.Name != name {
		return nil, fmt.Errorf("name: %q, want %q as in its key", r.Name, name)
	}
	if err := r.StoredProblems(); err != nil {
		return nil, err
	}
	return r, nil
}

// Routes reads and writes the routes in etcd, each as its canonical document under <prefix>/routes/<name>. It may
// be used by several goroutines. Its requests last until they are answered or ctx ends.
type Routes struct {
	cli     *clientv3.Client
	keys    string // see RouteKeys
	schemas string // see SchemaKeys
	compile resolver.Compiler
}

// NewRoutes returns the store under a valid prefix. compile checks routes in struct mode, or with a schema, before they are
// put; if it is nil, none of them can be put. The caller closes cli after the last use.
func NewRoutes(cli *clientv3.Client, prefix string, compile resolver.Compiler) *Routes {
	return &Routes{cli: cli, keys: RouteKeys(prefix), schemas: SchemaKeys(prefix), compile: compile}
}

// StoredRoute is a route as it is in etcd.
type StoredRoute struct {
	Route    *spec.Route
	Revision int64 // etcd's, of the last change of this route
}

// DocumentError means that a document in etcd is no valid route of its name. Another client of etcd wrote it, because Routes
// does not store such documents. Put the route again, or delete it.
type DocumentError struct {
	Name     string // from its key
	Revision int64  // of its last change
	Document []byte // as it is in etcd
	Err      error
}

func (e *DocumentError) Error() string {
	return fmt.Sprintf("route %s: bad document at revision %d: %v", e.Name, e.Revision, e.Err)
}

// Unwrap returns what is wrong with the document.
func (e *DocumentError) Unwrap() error { return e.Err }

// Get returns the route of that name. The error is ErrNotFound, a *DocumentError or that of the request.
func (s *Routes) Get(ctx context.Context, name string) (*StoredRoute, error) {
	resp, err := s.cli.Get(ctx, s.keys+name)
	if err != nil {
		return nil, fmt.Errorf("get route %s: %w", name, err)
	}
	if len(resp.Kvs) == 0 {
		return nil, fmt.Errorf("route %s: %w", name, ErrNotFound)
	}
	r, bad := s.read(resp.Kvs[0])
	if bad != nil {
		return nil, bad
	}
	return r, nil
}

// List returns all routes, and all documents under the prefix that are no valid routes. Both are sorted by name.
func (s *Routes) List(ctx context.Context) ([]*StoredRoute, []*DocumentError, error) {
	kvs, err := s.all(ctx)
	if err != nil {
		return nil, nil, err
	}
	var routes []*StoredRoute
	var bads []*DocumentError
	for _, kv := range kvs {
		if r, bad := s.read(kv); bad != nil {
			bads = append(bads, bad)
		} else {
			routes = append(routes, r)
		}
	}
	return routes, bads, nil
}

// all returns every document under the prefix, sorted by key.
func (s *Routes) all(ctx context.Context) ([]*mvccpb.KeyValue, error) {
	resp, err := s.cli.Get(ctx, s.keys, clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return resp.Kvs, nil
}

// read returns the route in the value of a key, or what is wrong with it.
func (s *Routes) read(kv *mvccpb.KeyValue) (*StoredRoute, *DocumentError) {
	name := s.nameOf(kv)
	r, err := ParseRoute(name, kv.Value)
	if err != nil {
		return nil, &DocumentError{Name: name, Revision: kv.ModRevision, Document: kv.Value, Err: err}
	}
	return &StoredRoute{Route: r, Revision: kv.ModRevision}, nil
}

func (s *Routes) nameOf(kv *mvccpb.KeyValue) string {
	return strings.TrimPrefix(string(kv.Key), s.keys)
}
