package resolver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// DefaultPrefix is what framegate's keys in etcd start with unless configured.
const DefaultPrefix = "/framegate"

// MaxPutRoutes is how many routes one PutAll takes: what etcd takes in a transaction (its --max-txn-ops).
const MaxPutRoutes = 128

// putAttempts bounds how often PutAll starts again because somebody else changed one of the routes meanwhile.
const putAttempts = 10

// ErrNotFound means that etcd has no route of that name. List tells which there are.
var ErrNotFound = errors.New("not found")

// ErrConflict means that others changed the same routes again and again during a put. Nothing was stored; try again.
var ErrConflict = errors.New("changed by others meanwhile, try again")

// ValidatePrefix reports what is wrong with a prefix of keys.
func ValidatePrefix(prefix string) error {
	if !strings.HasPrefix(prefix, "/") || strings.HasSuffix(prefix, "/") || strings.ContainsAny(prefix, " \t\r\n\x00") {
		return fmt.Errorf("%q, want /name without a slash at its end", prefix)
	}
	return nil
}

func routeKeys(prefix string) string { return prefix + "/routes/" }

// parseStored is ParseRoute for a document that is stored under name.
func parseStored(name string, doc []byte) (*Route, error) {
	r, err := ParseRoute(doc)
	if err != nil {
		return nil, err
	}
	if r.Name != name {
		return nil, fmt.Errorf("name: %q, want %q as in its key", r.Name, name)
	}
	return r, nil
}

// RouteStore reads and writes the routes in etcd, each as its canonical document under <prefix>/routes/<name>. It may
// be used by several goroutines. Its requests last until they are answered or ctx ends.
type RouteStore struct {
	cli  *clientv3.Client
	keys string // what the keys of routes start with
}

// NewRouteStore returns the store under a valid prefix. The caller closes cli after the last use.
func NewRouteStore(cli *clientv3.Client, prefix string) *RouteStore {
	return &RouteStore{cli: cli, keys: routeKeys(prefix)}
}

// StoredRoute is a route as it is in etcd.
type StoredRoute struct {
	Route    *Route
	Revision int64 // etcd's, of the last change of this route
}

// DocumentError is a document in etcd that is no valid route of its name. Somebody else put it there: RouteStore does
// not store such a thing. Put the route again, or delete it.
type DocumentError struct {
	Name     string // from its key
	Revision int64  // of its last change
	Err      error
}

func (e *DocumentError) Error() string {
	return fmt.Sprintf("route %s: bad document at revision %d: %v", e.Name, e.Revision, e.Err)
}

// Unwrap returns what is wrong with the document.
func (e *DocumentError) Unwrap() error { return e.Err }

// Outcome says what a put did.
type Outcome string

// The outcomes of a put.
const (
	Created   Outcome = "created"
	Updated   Outcome = "updated"
	Unchanged Outcome = "unchanged" // the same document was there; nothing was written
)

// PutResult is what a put did with one route.
type PutResult struct {
	Name     string
	Outcome  Outcome
	Revision int64 // of the last change of the route
}

// Put stores one route.
func (s *RouteStore) Put(ctx context.Context, r *Route) (PutResult, error) {
	results, err := s.PutAll(ctx, []*Route{r})
	if err != nil {
		return PutResult{}, err
	}
	return results[0], nil
}

// PutAll stores all the routes in one transaction, or none. Their names must differ. The results are in the order of
// the routes.
func (s *RouteStore) PutAll(ctx context.Context, routes []*Route) ([]PutResult, error) {
	if len(routes) == 0 {
		return nil, nil
	}
	if len(routes) > MaxPutRoutes {
		return nil, fmt.Errorf("put %d routes at once: want at most %d, so that all or none are stored", len(routes), MaxPutRoutes)
	}
	docs, err := encodeAll(routes)
	if err != nil {
		return nil, err
	}
	for range putAttempts {
		results, stored, err := s.tryPut(ctx, routes, docs)
		if err != nil {
			return nil, putError(routes, docs, err)
		}
		if stored {
			return results, nil
		}
	}
	return nil, putError(routes, docs, ErrConflict)
}

// encodeAll returns the documents of routes, each of which can be read again.
func encodeAll(routes []*Route) ([][]byte, error) {
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
			_, err = parseStored(r.Name, doc)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("route %s: %w", r.Name, err))
		}
		docs[i] = doc
	}
	return docs, errors.Join(errs...)
}

func putError(routes []*Route, docs [][]byte, err error) error {
	what := fmt.Sprintf("put route %s", routes[0].Name)
	if len(routes) > 1 {
		what = fmt.Sprintf("put %d routes", len(routes))
	}
	if isTooLarge(err) {
		return fmt.Errorf("%s: %d bytes, more than this etcd takes at once; put fewer routes at a time: %w",
			what, len(bytes.Join(docs, nil)), err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// isTooLarge reports whether the server, or the client on its behalf, refused a request for its size.
func isTooLarge(err error) bool {
	var answer rpctypes.EtcdError
	if errors.As(err, &answer) {
		return errors.Is(err, rpctypes.ErrRequestTooLarge)
	}
	return status.Code(err) == codes.ResourceExhausted
}

// tryPut returns false, having stored nothing, if somebody changed one of the routes meanwhile.
func (s *RouteStore) tryPut(ctx context.Context, routes []*Route, docs [][]byte) ([]PutResult, bool, error) {
	reads := make([]clientv3.Op, len(routes))
	for i, r := range routes {
		reads[i] = clientv3.OpGet(s.keys + r.Name)
	}
	before, err := s.cli.Txn(ctx).Then(reads...).Commit()
	if err != nil {
		return nil, false, err
	}
	results := make([]PutResult, len(routes))
	var unchanged []clientv3.Cmp
	var writes []clientv3.Op
	for i, r := range routes {
		key := s.keys + r.Name
		results[i] = PutResult{Name: r.Name, Outcome: Created}
		if kvs := before.Responses[i].GetResponseRange().Kvs; len(kvs) > 0 {
			results[i].Outcome, results[i].Revision = Updated, kvs[0].ModRevision
			if bytes.Equal(kvs[0].Value, docs[i]) {
				results[i].Outcome = Unchanged
			}
		}
		unchanged = append(unchanged, clientv3.Compare(clientv3.ModRevision(key), "=", results[i].Revision))
		if results[i].Outcome != Unchanged {
			writes = append(writes, clientv3.OpPut(key, string(docs[i])))
		}
	}
	if len(writes) == 0 {
		return results, true, nil
	}
	after, err := s.cli.Txn(ctx).If(unchanged...).Then(writes...).Commit()
	if err != nil || !after.Succeeded {
		return nil, false, err
	}
	for i := range results {
		if results[i].Outcome != Unchanged {
			results[i].Revision = after.Header.Revision
		}
	}
	return results, true, nil
}

// Get returns the route of that name. The error is ErrNotFound, a *DocumentError or that of the request.
func (s *RouteStore) Get(ctx context.Context, name string) (*StoredRoute, error) {
	resp, err := s.cli.Get(ctx, s.keys+name)
	if err != nil {
		return nil, fmt.Errorf("get route %s: %w", name, err)
	}
	if len(resp.Kvs) == 0 {
		return nil, fmt.Errorf("route %s: %w", name, ErrNotFound)
	}
	kv := resp.Kvs[0]
	r, err := parseStored(name, kv.Value)
	if err != nil {
		return nil, &DocumentError{Name: name, Revision: kv.ModRevision, Err: err}
	}
	return &StoredRoute{Route: r, Revision: kv.ModRevision}, nil
}

// List returns all routes, and all documents under the prefix that are no routes, each by name.
func (s *RouteStore) List(ctx context.Context) ([]*StoredRoute, []*DocumentError, error) {
	resp, err := s.cli.Get(ctx, s.keys, clientv3.WithPrefix()) // sorted by key
	if err != nil {
		return nil, nil, fmt.Errorf("list routes: %w", err)
	}
	var routes []*StoredRoute
	var bad []*DocumentError
	for _, kv := range resp.Kvs {
		name := strings.TrimPrefix(string(kv.Key), s.keys)
		r, err := parseStored(name, kv.Value)
		if err != nil {
			bad = append(bad, &DocumentError{Name: name, Revision: kv.ModRevision, Err: err})
			continue
		}
		routes = append(routes, &StoredRoute{Route: r, Revision: kv.ModRevision})
	}
	return routes, bad, nil
}

// Delete removes the route of that name, also a bad document, and reports whether there was one.
func (s *RouteStore) Delete(ctx context.Context, name string) (bool, error) {
	resp, err := s.cli.Delete(ctx, s.keys+name)
	if err != nil {
		return false, fmt.Errorf("delete route %s: %w", name, err)
	}
	return resp.Deleted > 0, nil
}
