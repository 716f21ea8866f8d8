package etcdsource

import (
	"cmp"
	"time"

	"github.com/framegate/framegate/resolver"
)

// Status says how what is in force relates to what is in etcd. It may be called at any time.
func (s *Source) Status() resolver.SourceStatus {
	st := resolver.SourceStatus{Reason: s.reach.reason()}
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

// Routes returns the status of each route in etcd. It may be called at any time.
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

// Schemas returns the status of each schema in etcd, and of each schema that was deleted and stays in force because routes
// use it. It may be called at any time.
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
