package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/framegate/framegate/resolver/match"
	"github.com/framegate/framegate/resolver/spec"
)

// History has the versions of a route that etcd still knows.
type History struct {
	Name      string
	Versions  []Version // newest first; at least one
	Revision  int64     // etcd's, as of which these are all versions
	Compacted int64     // etcd has forgotten the versions that were replaced up to this revision; 0 if none
}

// Version is a version of a route.
type Version struct {
	Revision int64         // etcd's
	Change   match.Outcome // Created, Updated or Deleted
	Route    *spec.Route   // nil if it was deleted or its document is bad
	Err      error         // what is wrong with the document; nil if it is good
}

const (
	historyAttempts = 5                     // to read a history while etcd is being compacted
	progressEvery   = 50 * time.Millisecond // how often etcd is asked whether all changes were sent
)

// History returns every version of a route in etcd's history, including deletions, and bad documents, which other clients of
// etcd wrote. The route may be deleted by now. The error is ErrNotFound if there is no version.
func (s *Routes) History(ctx context.Context, name string) (*History, error) {
	h := &History{Name: name}
	for range historyAttempts {
		compacted, err := s.readHistory(ctx, h)
		if err != nil {
			return nil, fmt.Errorf("history of route %s: %w", name, err)
		}
		if compacted > 0 {
			h.Compacted = compacted
			continue
		}
		if len(h.Versions) == 0 {
			return nil, fmt.Errorf("history of route %s: %w", name, ErrNotFound)
		}
		slices.Reverse(h.Versions)
		return h, nil
	}
	return nil, fmt.Errorf("history of route %s: etcd forgets revisions faster than they can be read, try again", name)
}

// readHistory fills h with the version that the route had at h.Compacted and those after it, oldest first. If etcd was
// compacted meanwhile, it returns the revision up to which; what it has filled is then of no use.
func (s *Routes) readHistory(ctx context.Context, h *History) (compacted int64, err error) {
	key := s.keys + h.Name
	now, err := s.cli.Get(ctx, key, clientv3.WithKeysOnly())
	if err != nil {
		return 0, err
	}
	h.Versions, h.Revision = nil, max(now.Header.Revision, h.Compacted)
	if h.Compacted > 0 {
		base, err := s.cli.Get(ctx, key, clientv3.WithRev(h.Compacted))
		switch {
		case errors.Is(err, rpctypes.ErrCompacted): // readEvents returns the revision
		case err != nil:
			return 0, err
		case len(base.Kvs) > 0:
			h.Versions = append(h.Versions, s.version(base.Kvs[0]))
		}
	}
	var last int64
	if len(now.Kvs) > 0 {
		last = now.Kvs[0].ModRevision
	}
	if h.Compacted == h.Revision || last > 0 && h.endsAt(last) {
		return 0, nil
	}
	return s.readEvents(ctx, h, key, last)
}

// endsAt reports whether the last of Versions, while they are sorted oldest first, is of that revision.
func (h *History) endsAt(revision int64) bool {
	n := len(h.Versions)
	return n > 0 && h.Versions[n-1].Revision == revision
}

// readEvents appends the versions after h.Compacted up to h.Revision, which it gets from a watch. The last one is of revision
// last; if last is 0, the key does not exist now, and a progress notification tells that all were sent. It returns what
// readHistory returns.
func (s *Routes) readEvents(ctx context.Context, h *History, key string, last int64) (compacted int64, err error) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	changes := s.cli.Watch(ctx, key, clientv3.WithRev(h.Compacted+1))
	ask := time.NewTicker(progressEvery)
	defer ask.Stop()
	for {
		select {
		case resp, ok := <-changes:
			switch {
			case !ok && ctx.Err() != nil:
				return 0, ctx.Err()
			case !ok:
				return 0, errors.New("etcd ended the watch")
			case resp.CompactRevision > 0:
				return resp.CompactRevision, nil
			case resp.Err() != nil:
				return 0, resp.Err()
			}
			for _, e := range resp.Events {
				if e.Kv.ModRevision > h.Revision {
					return 0, nil
				}
				h.Versions = append(h.Versions, s.versionOfEvent(e))
			}
			if last > 0 && h.endsAt(last) || last == 0 && resp.IsProgressNotify() && resp.Header.Revision >= h.Revision {
				return 0, nil
			}
		case <-ask.C:
			if err := s.cli.RequestProgress(ctx); err != nil {
				return 0, err
			}
		}
	}
}

func (s *Routes) versionOfEvent(e *clientv3.Event) Version {
	if e.Type == clientv3.EventTypeDelete {
		return Version{Revision: e.Kv.ModRevision, Change: match.Deleted}
	}
	return s.version(e.Kv)
}

func (s *Routes) version(kv *mvccpb.KeyValue) Version {
	v := Version{Revision: kv.ModRevision, Change: match.Updated}
	if kv.CreateRevision == kv.ModRevision {
		v.Change = match.Created
	}
	if r, bad := s.read(kv); bad != nil {
		v.Err = bad.Err
	} else {
		v.Route = r.Route
	}
	return v
}

// at returns the version that the route had at a revision. The error says why there was no good one.
func (h *History) at(revision int64) (Version, error) {
	if revision > h.Revision {
		return Version{}, fmt.Errorf("route %s: revision %d is yet to come, want at most %d", h.Name, revision, h.Revision)
	}
	i := slices.IndexFunc(h.Versions, func(v Version) bool { return v.Revision <= revision })
	switch {
	case i < 0 && revision < h.Compacted:
		return Version{}, fmt.Errorf("route %s: etcd has forgotten revision %d (compacted up to %d), want one of its history", h.Name, revision, h.Compacted)
	case i < 0 || h.Versions[i].Change == match.Deleted:
		return Version{}, fmt.Errorf("route %s: did not exist at revision %d, want one of its history at which it did", h.Name, revision)
	case h.Versions[i].Err != nil:
		v := h.Versions[i]
		return Version{}, &DocumentError{Name: h.Name, Revision: v.Revision, Err: v.Err}
	}
	return h.Versions[i], nil
}

// previous returns the latest good version that differs from the present one.
func (h *History) previous() (Version, error) {
	now := h.Versions[0].Route
	for _, v := range h.Versions[1:] {
		if v.Route != nil && (now == nil || len(match.ChangedKeys(v.Route, now)) > 0) {
			return v, nil
		}
	}
	forgotten := ""
	if h.Compacted > 0 {
		forgotten = fmt.Sprintf(" since revision %d, before which it has forgotten", h.Compacted)
	}
	return Version{}, fmt.Errorf("route %s: etcd has no other good version before the one now%s", h.Name, forgotten)
}

// RollbackResult is the result of a rollback.
type RollbackResult struct {
	PutResult
	To int64 // revision of the version that was stored again
}

// Rollback stores a route again as it was at revision to, or if that is 0, its latest good version that differs from the
// present one. A deleted route is created again. It fails for a revision at which the route did not exist or was bad (a
// *DocumentError), and for one that etcd has forgotten. If the route is changed at the same time, nothing is stored and the
// error is a *ConflictError.
func (s *Routes) Rollback(ctx context.Context, name string, to int64) (RollbackResult, error) {
	h, err := s.History(ctx, name)
	if err != nil {
		return RollbackResult{}, err
	}
	version, err := h.previous()
	if to != 0 {
		version, err = h.at(to)
	}
	if err != nil {
		return RollbackResult{}, fmt.Errorf("roll back %w", err)
	}
	now := h.Versions[0]
	if now.Change == match.Deleted {
		now.Revision = 0
	}
	put, err := s.Put(ctx, version.Route, IfRevision(now.Revision))
	if err != nil {
		return RollbackResult{}, err
	}
	return RollbackResult{PutResult: put, To: version.Revision}, nil
}
