package etcdsource

import (
	"cmp"
	"time"

	"github.com/framegate/framegate/resolver"
)

// Status may be called at any time.
func (s *Source) Status() resolver.SourceStatus {
	st := resolver.SourceStatus{Reason: s.outage.reason()}
	st.Stale = st.Reason != ""
	st.SnapshotFailures = s.unwritten.Load()
	if at := s.written.Load(); at != 0 {
		st.SnapshotWritten = time.Unix(0, at)
	}
	for _, count := range []func() (int, int64){s.schemas.rejected, s.routes.rejected, s.instances.rejected, s.bindings.rejected} {
		now, ever := count()
		st.Rejected += now
		st.Rejections += ever
	}
	s.routes.mu.Lock()
	st.Revision, st.Confirmed = s.routes.applied, s.routes.confirmed
	s.routes.mu.Unlock()
	st.Revision = s.waiting.before(st.Revision)
	return st
}

// Routes says what became of each document of routes. It may be called at any time.
func (s *Source) Routes() []resolver.RouteStatus {
	s.routes.mu.Lock()
	defer s.routes.mu.Unlock()
	all := make([]resolver.RouteStatus, 0, len(s.routes.docs))
	for name, d := range s.routes.docs {
		bound, err := s.bindings.routeStatus(name, goodVersion(d))
		all = append(all, resolver.RouteStatus{
			Name: name, Source: Name, Route: bound.value, Revision: bound.revision, Latest: d.latest, Err: cmp.Or(d.err, err),
		})
	}
	return all
}

// Schemas says what became of each document of schemas, and of schemas that were deleted though routes in force use
// them. It may be called at any time.
func (s *Source) Schemas() []resolver.SchemaStatus {
	s.schemas.mu.Lock()
	defer s.schemas.mu.Unlock()
	all := make([]resolver.SchemaStatus, 0, len(s.schemas.docs))
	for name, d := range s.schemas.docs {
		current, err := s.bindings.schemaStatus(name, goodVersion(d))
		all = append(all, resolver.SchemaStatus{
			Name: name, Schema: current.value, Revision: current.revision, Latest: d.latest, Err: cmp.Or(d.err, err),
		})
	}
	for name, st := range s.bindings.deleted() {
		if s.schemas.docs[name] == nil {
			all = append(all, st)
		}
	}
	return all
}
