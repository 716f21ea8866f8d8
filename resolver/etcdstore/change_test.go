package etcdstore

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/etcdfront"
	"github.com/framegate/framegate/test/etcdtest"
	"github.com/framegate/framegate/test/resolvertest"
	"github.com/framegate/framegate/test/routetest"
)

// changing are the stores behind a front that loses things, and what looks at etcd itself.
type changing struct {
	front    *etcdfront.Front
	cli      *clientv3.Client // of etcd itself
	routes   *Routes
	schemas  *Schemas
	services *Services
}

func newChanging(t *testing.T) *changing {
	t.Helper()
	e := etcdtest.StartEtcd(t)
	front := etcdfront.New(t, e.Endpoint())
	cli := resolvertest.EtcdClient(t, front.Endpoint)
	return &changing{
		front: front, cli: resolvertest.EtcdClient(t, e.Endpoint()),
		routes: NewRoutes(cli, DefaultPrefix, nil), schemas: NewSchemas(cli, DefaultPrefix, nil), services: NewServices(cli, DefaultServicePrefix),
	}
}

// Every change is made once, and what is said of it is so, whether the request was lost or its answer.
func TestChange_WhatIsLostOnTheWayIsDoneOnce(t *testing.T) {
	t.Parallel()
	for what, loss := range map[string]etcdfront.Loss{"request": etcdfront.Request, "answer": etcdfront.Answer} {
		t.Run(what, func(t *testing.T) {
			c := newChanging(t)
			ctx, cancel := context.WithTimeout(t.Context(), 3*etcdtest.Soon)
			defer cancel()
			once := func(change func() (int64, error)) {
				t.Helper()
				before := etcdRevision(t, c.cli)
				c.front.Lose(loss)
				revision, err := change()
				require.NoError(t, err)
				require.Equal(t, before+1, etcdRevision(t, c.cli), "it is done once")
				if revision != 0 {
					require.Equal(t, before+1, revision)
				}
			}
			put := func(want match.Outcome, opts ...WriteOption) func(...*spec.Route) {
				return func(routes ...*spec.Route) {
					t.Helper()
					once(func() (int64, error) {
						results, err := c.routes.PutAll(ctx, routes, opts...)
						require.NoError(t, err)
						for _, r := range results {
							require.Equal(t, want, r.Outcome)
							require.Equal(t, results[0].Revision, r.Revision)
						}
						return results[0].Revision, nil
					})
				}
			}
			put(match.Created, IfRevision(0))(routetest.Route("a", "/a.S/A", 0), routetest.Route("b", "/a.S/B", 0))
			put(match.Updated, IfRevision(etcdRevision(t, c.cli)))(routetest.Route("a", "/a.S/A", 1), routetest.Route("b", "/a.S/B", 1))
			put(match.Updated)(routetest.Route("a", "/a.S/A", 2))
			once(func() (int64, error) {
				found, err := c.routes.Delete(ctx, "a", IfRevision(etcdRevision(t, c.cli)))
				require.True(t, found)
				return 0, err
			})
			once(func() (int64, error) {
				result, err := c.schemas.Put(ctx, "shop", routetest.ShopSchema(t, "a"))
				require.Equal(t, match.Created, result.Outcome)
				return result.Revision, err
			})
			once(func() (int64, error) {
				result, err := c.schemas.Put(ctx, "shop", routetest.ShopSchema(t, "a", "b"))
				require.Equal(t, match.Updated, result.Outcome)
				return result.Revision, err
			})
			once(func() (int64, error) {
				found, err := c.schemas.Delete(ctx, "shop")
				require.True(t, found)
				return 0, err
			})
			once(func() (int64, error) {
				_, err := c.services.Heartbeat(ctx, "echo", echoInstance, time.Hour)
				return 0, err
			})
			once(func() (int64, error) {
				found, err := c.services.Deregister(ctx, "echo", echoInstance.Address)
				require.True(t, found)
				return 0, err
			})
			found, err := c.services.Deregister(ctx, "echo", echoInstance.Address)
			require.NoError(t, err)
			require.False(t, found)
		})
	}
}

// What somebody else writes in the meantime is neither overwritten nor taken for ours.
func TestChange_OthersInTheMeantimeAreNotOverwritten(t *testing.T) {
	t.Parallel()
	for what, loss := range map[string]etcdfront.Loss{"request": etcdfront.Request, "answer": etcdfront.Answer} {
		t.Run(what, func(t *testing.T) {
			c := newChanging(t)
			theirs := NewRoutes(c.cli, DefaultPrefix, nil)
			c.front.Lose(loss)
			c.front.After(func() {
				_, err := theirs.Put(t.Context(), routetest.Route("a", "/a.S/Theirs", 0))
				require.NoError(t, err)
			})
			_, err := c.routes.Put(t.Context(), routetest.Route("a", "/a.S/Ours", 0), IfRevision(0))
			require.ErrorIs(t, err, etcdclient.ErrConflict)
			got, err := theirs.Get(t.Context(), "a")
			require.NoError(t, err)
			require.Equal(t, "/a.S/Theirs", got.Route.Match[0].Method)

			c.front.Lose(loss)
			c.front.After(func() {
				_, err := theirs.Put(t.Context(), routetest.Route("a", "/a.S/TheirsAgain", 0))
				require.NoError(t, err)
			})
			_, err = c.routes.Delete(t.Context(), "a", IfRevision(got.Revision))
			require.ErrorIs(t, err, etcdclient.ErrConflict)
		})
	}
}

func TestChange_OutcomeThatNobodyTellsIsUnknown(t *testing.T) {
	t.Parallel()
	c := newChanging(t)
	c.front.Lose(etcdfront.Silence)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	_, err := c.routes.PutAll(ctx, []*spec.Route{routetest.Route("a", "/a.S/A", 0), routetest.Route("b", "/a.S/B", 0)})
	var unknown *etcdclient.UnknownOutcomeError
	require.ErrorAs(t, err, &unknown)
	require.Equal(t, &etcdclient.UnknownOutcomeError{Kind: "route", Err: context.DeadlineExceeded}, unknown)
	require.EqualError(t, err, "routes: the change may or may not have been made: context deadline exceeded")

	c = newChanging(t)
	c.front.Lose(etcdfront.Silence)
	ctx, cancel = context.WithCancel(t.Context())
	c.front.After(cancel)
	_, err = c.routes.Put(ctx, routetest.Route("a", "/a.S/A", 0))
	require.ErrorAs(t, err, &unknown, "whoever is interrupted does not know either")
	require.Equal(t, "a", unknown.Name)
}

// A change that was given to no connection has certainly not been made.
func TestChange_WithoutAnyoneToTellItToIsCertain(t *testing.T) {
	t.Parallel()
	e := etcdtest.StartEtcd(t)
	cli := resolvertest.EtcdClient(t, e.Endpoint())
	store := NewRoutes(cli, DefaultPrefix, nil)
	_, err := store.Put(t.Context(), routetest.Route("a", "/a.S/A", 0))
	require.NoError(t, err)
	require.NoError(t, e.Close())
	c := etcdclient.NewWrite(cli)
	etcdtest.Eventually(t, etcdtest.Soon, "it is noticed that the connection is gone", func() bool { return etcdclient.Reach(t.Context(), cli) != nil })
	_, err = c.Commit(t.Context(), nil, clientv3.OpDelete(RouteKeys(DefaultPrefix)+"a"))
	require.True(t, etcdclient.IsUnavailable(err), err)
	require.False(t, c.Unsure)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = store.Put(ctx, routetest.Route("a", "/a.S/Changed", 0))
	require.True(t, etcdclient.IsUnavailable(err), err)
	require.NotErrorAs(t, err, new(*etcdclient.UnknownOutcomeError))
	require.NoError(t, ctx.Err(), "there is no election to wait for")
}
