package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/etcdclient"
	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/etcdtest"
	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/routetest"
)

// rawPut stores a document as other hands would and returns its revision.
func (s *Routes) rawPut(t *testing.T, name, doc string) int64 {
	t.Helper()
	resp, err := s.cli.Put(t.Context(), s.keys+name, doc)
	require.NoError(t, err)
	return resp.Header.Revision
}

func (s *Routes) mustPut(t *testing.T, r *spec.Route) int64 {
	t.Helper()
	result, err := s.Put(t.Context(), r)
	require.NoError(t, err)
	return result.Revision
}

func (s *Routes) mustDelete(t *testing.T, name string) {
	t.Helper()
	found, err := s.Delete(t.Context(), name)
	require.NoError(t, err)
	require.True(t, found)
}

func (s *Routes) history(t *testing.T, name string) (*History, []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), etcdtest.Soon)
	defer cancel()
	h, err := s.History(ctx, name)
	require.NoError(t, err)
	var lines []string
	for _, v := range h.Versions {
		what := ""
		switch {
		case v.Err != nil:
			what = " bad"
		case v.Route != nil:
			what = " " + v.Route.Match[0].Method
		}
		lines = append(lines, fmt.Sprintf("%d %s%s", v.Revision, v.Change, what))
	}
	return h, lines
}

func TestHistory_HasEveryVersionNewestFirst(t *testing.T) {
	t.Parallel()
	s := newOwnStore(t)
	s.mustPut(t, routetest.Route("echo", "/a.S/One", 0)) // revision 2
	s.mustPut(t, routetest.Route("echo-2", "/a.S/Other", 0))
	s.mustPut(t, routetest.Route("echo", "/a.S/Two", 0))
	s.rawPut(t, "echo", "colour: red")
	s.mustDelete(t, "echo")
	want := []string{"6 deleted", "5 updated bad", "4 updated /a.S/Two", "2 created /a.S/One"}
	h, lines := s.history(t, "echo")
	require.Equal(t, want, lines, "of a route that is deleted now")
	require.ErrorContains(t, h.Versions[1].Err, "colour: unknown key")
	require.Zero(t, h.Compacted)

	s.rawPut(t, "echo", "name: other")
	s.mustPut(t, routetest.Route("echo", "/a.S/Three", 0))
	s.mustDelete(t, "echo-2")
	h, lines = s.history(t, "echo")
	require.Equal(t, append([]string{"8 updated /a.S/Three", "7 created bad"}, want...), lines)
	require.EqualValues(t, 9, h.Revision)

	_, err := s.History(t.Context(), "none")
	require.ErrorIs(t, err, ErrNotFound)
}

func TestHistory_SaysWhatWasCompacted(t *testing.T) {
	t.Parallel()
	s := newOwnStore(t)
	for i := range 4 {
		s.mustPut(t, routetest.Route("echo", fmt.Sprintf("/a.S/M%d", i), 0)) // revisions 2 to 5
	}
	s.mustPut(t, routetest.Route("other", "/a.S/Other", 0))
	_, err := s.cli.Compact(t.Context(), 6)
	require.NoError(t, err)
	h, lines := s.history(t, "echo")
	require.Equal(t, []string{"5 updated /a.S/M3"}, lines, "the version that was in force then is still there")
	require.EqualValues(t, 6, h.Compacted)

	s.mustPut(t, routetest.Route("echo", "/a.S/M4", 0))
	s.mustDelete(t, "echo")
	_, lines = s.history(t, "echo")
	require.Equal(t, []string{"8 deleted", "7 updated /a.S/M4", "5 updated /a.S/M3"}, lines)
	_, err = s.cli.Compact(t.Context(), 7)
	require.NoError(t, err)
	_, lines = s.history(t, "echo")
	require.Equal(t, []string{"8 deleted", "7 updated /a.S/M4"}, lines)
	_, err = s.cli.Compact(t.Context(), 8)
	require.NoError(t, err)
	_, err = s.History(t.Context(), "echo")
	require.ErrorIs(t, err, ErrNotFound, "nothing is left of it")
}

func TestHistory_WhileOthersWriteAndCompact(t *testing.T) {
	s := newOwnStore(t)
	busy := race.Choose(500, 100)
	s.mustPut(t, routetest.Route("busy", "/a.S/M", 0))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			put, err := s.Put(ctx, routetest.Route("busy", fmt.Sprintf("/a.S/M%d", i), 0))
			if err == nil && i%busy == busy-1 {
				_, err = s.cli.Compact(ctx, put.Revision)
			}
			if err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	compacted := false
	for began := time.Now(); !compacted; {
		require.Less(t, time.Since(began), 20*time.Second, "no compaction")
		h, _ := s.history(t, "busy")
		compacted = h.Compacted > 0
		for i, v := range h.Versions { // "busy" is the only key: each revision is a version of it
			require.Equal(t, h.Revision-int64(i), v.Revision)
		}
		require.EqualValues(t, max(2, h.Compacted), h.Versions[len(h.Versions)-1].Revision)
	}
}

func TestRollback_StoresTheLastGoodVersionThatDiffers(t *testing.T) {
	t.Parallel()
	s := newOwnStore(t)
	s.mustPut(t, routetest.Route("echo", "/a.S/One", 0)) // revision 2
	s.mustPut(t, routetest.Route("echo", "/a.S/Two", 0))
	s.rawPut(t, "echo", "colour: red")
	s.rawPut(t, "echo", "{name: echo, match: [{method: /a.S/Two}], backends: [{endpoints: [{address: '127.0.0.1:1'}]}]}")

	got, err := s.Rollback(t.Context(), "echo", 0)
	require.NoError(t, err)
	require.Equal(t, RollbackResult{PutResult{Name: "echo", Outcome: match.Updated, Revision: 6}, 2}, got, "the same route in other words does not count")
	now, err := s.Get(t.Context(), "echo")
	require.NoError(t, err)
	require.Equal(t, "/a.S/One", now.Route.Match[0].Method)

	got, err = s.Rollback(t.Context(), "echo", 0)
	require.NoError(t, err)
	require.EqualValues(t, 5, got.To, "again: back to where it was")
	got, err = s.Rollback(t.Context(), "echo", 2)
	require.NoError(t, err)
	require.EqualValues(t, 2, got.To)
	again, err := s.Rollback(t.Context(), "echo", 2)
	require.NoError(t, err)
	require.Equal(t, RollbackResult{PutResult{Name: "echo", Outcome: match.Unchanged, Revision: got.Revision}, 2}, again)

	s.mustDelete(t, "echo")
	got, err = s.Rollback(t.Context(), "echo", 0)
	require.NoError(t, err)
	require.Equal(t, match.Created, got.Outcome, "a deleted route comes back")
	s.rawPut(t, "echo", "colour: blue")
	good := got.Revision
	got, err = s.Rollback(t.Context(), "echo", 0)
	require.NoError(t, err)
	require.Equal(t, match.Updated, got.Outcome)
	require.Equal(t, good, got.To, "what was before a bad document")
}

func TestRollback_RefusesWhatItCannotBringBack(t *testing.T) {
	t.Parallel()
	s := newOwnStore(t)
	s.mustPut(t, routetest.Route("other", "/a.S/M", 0))  // revision 2
	s.mustPut(t, routetest.Route("echo", "/a.S/One", 0)) // 3
	s.rawPut(t, "echo", "colour: red")
	s.mustDelete(t, "echo")
	s.mustPut(t, routetest.Route("echo", "/a.S/Two", 0)) // 6
	s.mustPut(t, routetest.Route("other", "/a.S/N", 0))
	for to, want := range map[int64]string{
		2:  "roll back route echo: did not exist at revision 2, want one of its history at which it did",
		4:  "roll back route echo: bad document at revision 4: line 1: colour: unknown key, want one of: name, listeners, match, priority, mode, authority, schema, struct, backends, mirrors, select, respond, fanout, balancer, timeout, idle_timeout, max_stream_age, retry, hedge, limits",
		5:  "roll back route echo: did not exist at revision 5, want one of its history at which it did",
		99: "roll back route echo: revision 99 is yet to come, want at most 7",
	} {
		_, err := s.Rollback(t.Context(), "echo", to)
		require.EqualError(t, err, want)
	}
	_, err := s.cli.Compact(t.Context(), 7)
	require.NoError(t, err)
	_, err = s.Rollback(t.Context(), "echo", 3)
	require.EqualError(t, err, "roll back route echo: etcd has forgotten revision 3 (compacted up to 7), want one of its history")
	_, err = s.Rollback(t.Context(), "echo", 0)
	require.EqualError(t, err, "roll back route echo: etcd has no other good version before the one now since revision 7, before which it has forgotten")
	_, err = s.Rollback(t.Context(), "none", 0)
	require.ErrorIs(t, err, ErrNotFound)
	got, err := s.Rollback(t.Context(), "echo", 7)
	require.NoError(t, err)
	require.Equal(t, match.Unchanged, got.Outcome, "the version in force at that revision, not only one made by it")
}

func TestRollback_TwoAtOnceDoNotOverwriteEachOther(t *testing.T) {
	t.Parallel()
	s := newOwnStore(t)
	s.mustPut(t, routetest.Route("echo", "/a.S/One", 0))
	last := s.mustPut(t, routetest.Route("echo", "/a.S/Two", 0))
	var mu sync.Mutex
	stored, conflicts := 0, 0
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 10 {
				_, err := s.Rollback(t.Context(), "echo", 0)
				mu.Lock()
				switch {
				case err == nil:
					stored++
				case errors.Is(err, etcdclient.ErrConflict):
					conflicts++
				default:
					t.Error(err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	_, lines := s.history(t, "echo")
	require.Equal(t, 20, stored+conflicts)
	require.Len(t, lines, 2+stored, "every rollback that was stored is a version")
	now, err := s.Get(t.Context(), "echo")
	require.NoError(t, err)
	require.Equal(t, last+int64(stored), now.Revision)
}
