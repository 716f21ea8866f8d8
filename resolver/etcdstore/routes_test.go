package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/etcdtest"
	"github.com/framegate/framegate/test/resolvertest"
	"github.com/framegate/framegate/test/routetest"
)

// newStore returns an empty store in the etcd that tests share.
func newStore(t *testing.T) *Routes {
	t.Helper()
	at := etcdtest.Shared(t)
	return NewRoutes(resolvertest.EtcdClient(t, at.Endpoint), at.Prefix, nil)
}

// newOwnStore returns a store in an etcd of its own: each change is its next revision, and the first makes 2.
func newOwnStore(t *testing.T) *Routes {
	t.Helper()
	return NewRoutes(resolvertest.EtcdClient(t, etcdtest.StartEtcd(t).Endpoint()), DefaultPrefix, nil)
}

func TestStore_PutTellsWhatItDid(t *testing.T) {
	t.Parallel()
	s := newOwnStore(t)
	r := routetest.MustRoute(t, `
name: echo
priority: 7
timeout: 5s
match:
- {method: /echo.Echo/*, authority: "*.example.com", headers: [{name: x-tenant, regex: "gold|silver"}]}
backends:
- {name: stable, weight: 90, endpoints: [{address: "127.0.0.1:9001", weight: 3}]}
- {weight: 10, service: echo, tags: {cluster: canary}}
`)
	created, err := s.Put(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, match.Created, created.Outcome)

	same, err := s.Put(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, PutResult{Name: "echo", Outcome: match.Unchanged, Revision: created.Revision}, same)

	got, err := s.Get(t.Context(), "echo")
	require.NoError(t, err)
	require.Equal(t, r, got.Route)
	require.Equal(t, created.Revision, got.Revision)

	updated, err := s.Put(t.Context(), routetest.Route("echo", "/a.S/M", 0))
	require.NoError(t, err)
	require.Equal(t, PutResult{Name: "echo", Outcome: match.Updated, Revision: created.Revision + 1}, updated)

	found, err := s.Delete(t.Context(), "echo")
	require.NoError(t, err)
	require.True(t, found)
	found, err = s.Delete(t.Context(), "echo")
	require.NoError(t, err)
	require.False(t, found)
	_, err = s.Get(t.Context(), "echo")
	require.ErrorIs(t, err, ErrNotFound)
	require.EqualError(t, err, "route echo: not found")
}

func TestStore_PutAllStoresAllOrNothing(t *testing.T) {
	t.Parallel()
	s := newOwnStore(t)
	bad := routetest.Route("bad", "no/method", 0)
	_, err := s.PutAll(t.Context(), []*spec.Route{routetest.Route("good", "/a.S/M", 0), bad})
	require.ErrorContains(t, err, `route bad: match[0].method: "no/method"`)
	_, err = s.PutAll(t.Context(), []*spec.Route{routetest.Route("a", "/a.S/M", 0), routetest.Route("a", "/a.S/N", 0)})
	require.EqualError(t, err, "route a: given twice")

	var many []*spec.Route
	for i := range MaxPutRoutes {
		many = append(many, routetest.Route(fmt.Sprintf("r%d", i), "/a.S/M", 0))
	}
	_, err = s.PutAll(t.Context(), append(many[:MaxPutRoutes:MaxPutRoutes], routetest.Route("last", "*", 0)))
	require.EqualError(t, err, "put 129 routes at once: want at most 128, so that all or none are stored")
	routes, _, err := s.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, routes, "nothing is stored")

	results, err := s.PutAll(t.Context(), many)
	require.NoError(t, err)
	for i, r := range results {
		require.Equal(t, PutResult{Name: many[i].Name, Outcome: match.Created, Revision: results[0].Revision}, r, "one transaction")
	}
	many[3] = routetest.Route(many[3].Name, "/a.S/Other", 0)
	again, err := s.PutAll(t.Context(), many)
	require.NoError(t, err)
	require.Equal(t, match.Unchanged, again[2].Outcome)
	require.Equal(t, match.Updated, again[3].Outcome)
	require.Equal(t, results[0].Revision+1, again[3].Revision)
	routes, bads, err := s.List(t.Context())
	require.NoError(t, err)
	require.Len(t, routes, MaxPutRoutes)
	require.Empty(t, bads)
}

func TestStore_RefusesMoreBytesThanEtcdTakes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var big []*spec.Route
	for i := range 3 {
		r := routetest.Route(fmt.Sprintf("big%d", i), "/a.S/M", 0)
		for j := range 1100 {
			r.Backends[0].Endpoints = append(r.Backends[0].Endpoints, spec.Endpoint{Address: fmt.Sprintf("%s%d:1", strings.Repeat("h", 500), j)})
		}
		big = append(big, r)
	}
	_, err := s.PutAll(t.Context(), big)
	require.ErrorContains(t, err, "more than this etcd takes at once; put fewer routes at a time")
	routes, _, err := s.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, routes)
	_, err = s.Put(t.Context(), big[0])
	require.NoError(t, err)

	require.True(t, etcdclient.IsTooLarge(status.Error(codes.ResourceExhausted, "trying to send message larger than max")), "the client's own limit")
	require.False(t, etcdclient.IsTooLarge(rpctypes.ErrNoSpace), "etcd's disk quota has the same code")
}

func TestStore_ConcurrentPutsAreAtomic(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for range 5 {
				method := fmt.Sprintf("/a.S/M%d", w)
				_, err := s.PutAll(t.Context(), []*spec.Route{routetest.Route("a", method, 0), routetest.Route("b", method, 0)})
				if err != nil && !errors.Is(err, etcdclient.ErrConflict) {
					t.Error(err)
				}
				routes, _, err := s.List(t.Context())
				if err != nil || len(routes) == 2 && routes[0].Route.Match[0].Method != routes[1].Route.Match[0].Method {
					t.Errorf("half applied: %v %v", routes, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestStore_TellsBadDocumentsApart(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	_, err := s.Put(t.Context(), routetest.Route("good", "/a.S/M", 0))
	require.NoError(t, err)
	for _, name := range []string{"bad", "deep/name", ""} {
		_, err = s.cli.Put(t.Context(), s.keys+name, "colour: red")
		require.NoError(t, err)
	}
	_, err = s.cli.Put(t.Context(), strings.TrimSuffix(s.keys, "/")+"que", "no route")
	require.NoError(t, err)

	routes, bad, err := s.List(t.Context())
	require.NoError(t, err)
	require.Len(t, routes, 1)
	require.Len(t, bad, 3)
	require.Equal(t, "bad", bad[1].Name)
	_, err = s.Get(t.Context(), "bad")
	var doc *DocumentError
	require.ErrorAs(t, err, &doc)
	require.Regexp(t, `^route bad: bad document at revision \d+: line 1: colour: unknown key`, err.Error())

	found, err := s.Delete(t.Context(), "deep/name")
	require.NoError(t, err)
	require.True(t, found, "a bad document can be deleted")
	fixed, err := s.Put(t.Context(), routetest.Route("bad", "/a.S/M", 0))
	require.NoError(t, err)
	require.Equal(t, match.Updated, fixed.Outcome)
}

func TestStore_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := NewRoutes(resolvertest.EtcdClient(t, "127.0.0.1:1"), DefaultPrefix, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := s.Put(ctx, routetest.Route("a", "*", 0))
	require.True(t, etcdclient.IsUnavailable(err), "%v", err)
	_, _, err = s.List(ctx)
	require.True(t, etcdclient.IsUnavailable(err), "%v", err)
}

func TestValidatePrefix(t *testing.T) {
	for _, good := range []string{"/framegate", "/a/b"} {
		require.NoError(t, ValidatePrefix(good))
	}
	for _, bad := range []string{"", "/", "a", "/a/", "/a b", "/a\n"} {
		require.ErrorContains(t, ValidatePrefix(bad), "want /name without a slash at its end", bad)
	}
}

func TestStore_WritesOnlyIfTheRouteIsAtTheRevision(t *testing.T) {
	t.Parallel()
	s := newOwnStore(t)
	first, err := s.Put(t.Context(), routetest.Route("echo", "/a.S/One", 0), IfRevision(0))
	require.NoError(t, err)
	require.Equal(t, match.Created, first.Outcome)
	_, err = s.Put(t.Context(), routetest.Route("echo", "/a.S/One", 0), IfRevision(0))
	require.EqualError(t, err, "route echo: is at revision 2, want that it does not exist: somebody created it; get it first")
	second, err := s.Put(t.Context(), routetest.Route("echo", "/a.S/Two", 0), IfRevision(first.Revision))
	require.NoError(t, err)

	_, err = s.Put(t.Context(), routetest.Route("echo", "/a.S/Three", 0), IfRevision(first.Revision))
	require.EqualError(t, err, "route echo: is at revision 3, want 2: somebody changed it; get it again")
	var conflict *etcdclient.ConflictError
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, &etcdclient.ConflictError{Name: "echo", Want: 2, Got: 3}, conflict)
	require.ErrorIs(t, err, etcdclient.ErrConflict)
	_, err = s.Put(t.Context(), routetest.Route("echo", "/a.S/Two", 0), IfRevision(first.Revision))
	require.ErrorIs(t, err, etcdclient.ErrConflict, "even if there is nothing to change")
	_, err = s.Put(t.Context(), routetest.Route("none", "/a.S/M", 0), IfRevision(7))
	require.EqualError(t, err, "route none: does not exist, want revision 7: somebody deleted it, or it never was")

	_, err = s.PutAll(t.Context(), []*spec.Route{routetest.Route("new", "/a.S/M", 0), routetest.Route("echo", "/a.S/M", 0)}, IfRevision(0))
	require.ErrorAs(t, err, &conflict)
	_, err = s.Get(t.Context(), "new")
	require.ErrorIs(t, err, ErrNotFound, "all or none")

	_, err = s.Delete(t.Context(), "echo", IfRevision(first.Revision))
	require.EqualError(t, err, "route echo: is at revision 3, want 2: somebody changed it; get it again")
	found, err := s.Delete(t.Context(), "none", IfRevision(first.Revision))
	require.NoError(t, err)
	require.False(t, found)
	found, err = s.Delete(t.Context(), "echo", IfRevision(second.Revision))
	require.NoError(t, err)
	require.True(t, found)
}

func TestStore_OfTwoWritersAtOneRevisionOneWins(t *testing.T) {
	t.Parallel()
	s := newOwnStore(t)
	put, err := s.Put(t.Context(), routetest.Route("echo", "/a.S/M", 0))
	require.NoError(t, err)
	revision := put.Revision
	for round := range 20 {
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for w := range 2 {
			wg.Go(func() {
				_, errs[w] = s.Put(t.Context(), routetest.Route("echo", fmt.Sprintf("/a.S/R%dW%d", round, w), 0), IfRevision(revision))
			})
		}
		wg.Wait()
		won := 0
		for w := range 2 {
			if errs[w] == nil {
				won++
			} else {
				var conflict *etcdclient.ConflictError
				require.ErrorAs(t, errs[w], &conflict)
				require.Equal(t, &etcdclient.ConflictError{Name: "echo", Want: revision, Got: revision + 1}, conflict)
			}
		}
		require.Equal(t, 1, won)
		revision++
	}
}
