package etcdsource

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/resolver/strict"
)

// bindings hold the routes of a source together with the schemas that those in struct mode name. A route is in force
// when it fits its schema; a schema is, when every route in force fits it. What does not fit is refused, and the last
// version that did stays:
//
//	route changes ──fits its schema in force──> in force
//	              └─else────────────────────> refused until either changes; its last version in force stays
//	schema changes ──routes in force fit it──> in force, with new programs for all of them
//	               └─else───────────────────> refused until either changes; the schema in force stays
//	schema goes ────────────────────────────> in force as long as a route in force was made of it
type bindings struct {
	// set once
	compile resolver.Compiler
	apply   func(gone, added []*resolver.Route) // puts routes in force
	log     *slog.Logger
	refused chan struct{} // has room for one; filled when there is something to tell

	mu         sync.Mutex // guards what follows
	routes     map[string]*binding
	schemas    map[string]*boundSchema
	rejections int64 // refusals that were told
}

// version is a document of etcd.
type version[T any] struct {
	value    *T    // nil for none
	revision int64 // etcd's, of its last change
}

// binding is one route.
type binding struct {
	doc   version[spec.Route]     // the last good document
	bound version[resolver.Route] // in force
	err   error                   // why doc is not
	since time.Time               // when doc came
	told  bool                    // it was logged and counted that doc is refused
}

// boundSchema is one schema.
type boundSchema struct {
	current version[schema.Schema] // in force
	latest  version[schema.Schema] // the last good document; none if it was deleted
	err     error                  // why latest is not in force
	since   time.Time              // when latest came
	told    bool                   // it was logged and counted that latest is refused
}

func newBindings(compile resolver.Compiler, apply func(gone, added []*resolver.Route), log *slog.Logger) *bindings {
	return &bindings{
		compile: compile, apply: apply, log: log, refused: make(chan struct{}, 1),
		routes: map[string]*binding{}, schemas: map[string]*boundSchema{},
	}
}

// delta has what was in force before of each route that gets another version, nil for nothing. A route may get one more
// than once before the delta is applied.
type delta map[*binding]*resolver.Route

// put makes v the version of at that is in force.
func (d delta) put(at *binding, v version[resolver.Route]) {
	if _, ok := d[at]; !ok {
		d[at] = at.bound.value
	}
	at.bound = v
}

// setRoutes notes the last good documents of some routes, none for one that was deleted, and puts those that fit in force.
func (b *bindings) setRoutes(docs map[string]version[spec.Route]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := delta{}
	retry := map[string]bool{} // schemas that were refused, maybe for what these routes were
	for name, doc := range docs {
		at := b.routes[name]
		if at == nil {
			at = &binding{}
			b.routes[name] = at
		}
		for _, r := range []*spec.Route{at.doc.value, at.bound.value.Document(), doc.value} {
			if r != nil {
				retry[r.SchemaName()] = true
			}
		}
		if at.doc = doc; doc.value == nil {
			d.put(at, version[resolver.Route]{})
			delete(b.routes, name)
			continue
		}
		var bound *resolver.Route
		at.since, at.told = time.Now(), false
		if bound, at.err = b.compiled(doc.value); at.err == nil {
			d.put(at, version[resolver.Route]{bound, doc.revision})
		} else {
			b.refuse()
		}
	}
	for name := range retry {
		if s := b.schemas[name]; s != nil && s.latest.value != nil && s.err != nil {
			b.adopt(name, s, d)
		}
	}
	b.finish(d)
}

func (b *bindings) compiled(doc *spec.Route) (*resolver.Route, error) {
	name := doc.SchemaName()
	if name == "" {
		return b.compile.Bind(doc, nil)
	}
	s := b.schemas[name]
	if s == nil || s.current.value == nil {
		return nil, resolver.MissingSchema(name)
	}
	return b.compile.Bind(doc, s.current.value)
}

// setSchemas notes the last good documents of some schemas, none for one that was deleted, and puts those that fit in
// force. What routes have of a deleted schema stays.
func (b *bindings) setSchemas(docs map[string]version[schema.Schema]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := delta{}
	for _, name := range slices.Sorted(maps.Keys(docs)) {
		s := b.schemas[name]
		if s == nil {
			s = &boundSchema{}
			b.schemas[name] = s
		}
		s.latest, s.since, s.told = docs[name], time.Now(), false
		if s.latest.value != nil {
			b.adopt(name, s, d)
		} else if route := b.userOf(name); route != "" {
			s.err = fmt.Errorf("deleted, but route %s uses it; its last version stays in force", route)
			b.refuse()
		}
	}
	b.finish(d)
}

// finish applies d and forgets deleted schemas that no route in force is made of any more.
func (b *bindings) finish(d delta) {
	for name, s := range b.schemas {
		if s.latest.value == nil && b.userOf(name) == "" {
			delete(b.schemas, name)
		}
	}
	var gone, added []*resolver.Route
	for at, before := range d {
		if before != nil {
			gone = append(gone, before)
		}
		if at.bound.value != nil {
			added = append(added, at.bound.value)
		}
	}
	if len(gone)+len(added) > 0 {
		b.apply(gone, added)
	}
}

// refuse sees to it that what is refused is told.
func (b *bindings) refuse() {
	select {
	case b.refused <- struct{}{}:
	default:
	}
}

// tell logs and counts what is refused, came before a time and was not told yet. Whoever is woken up by refused calls it
// a moment later: a schema and a route that were put one after the other come in any order, and fit when both are there.
func (b *bindings) tell(before time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(b.schemas)) {
		s := b.schemas[name]
		switch {
		case s.err == nil || s.told:
			continue
		case !s.since.Before(before):
			b.refuse()
			continue
		}
		s.told = true
		b.rejections++
		what := "a schema does not fit the routes that use it"
		if s.latest.value == nil {
			what = "a schema that a route uses was deleted"
		}
		b.log.Error(what+"; its last good version stays in force", "schema", name, "error", s.err)
	}
	for _, name := range slices.Sorted(maps.Keys(b.routes)) {
		at := b.routes[name]
		switch {
		case at.err == nil || at.told:
			continue
		case !at.since.Before(before):
			b.refuse()
			continue
		}
		at.told = true
		b.rejections++
		stays := "no version of it is in force"
		if at.bound.value != nil {
			stays = "its last good version stays in force"
		}
		b.log.Error("a route does not fit its schema; "+stays, "route", name, "error", at.err)
	}
}

// userOf returns the first route in force that uses a schema, or "".
func (b *bindings) userOf(schema string) (user string) {
	for name, at := range b.routes {
		if at.bound.value != nil && at.bound.value.SchemaName() == schema && (user == "" || name < user) {
			user = name
		}
	}
	return user
}

// adopt puts the last version of a schema in force if the routes in force fit it. Documents of routes that are not in
// force do not hold it up; those that fit it come into force.
func (b *bindings) adopt(name string, s *boundSchema, d delta) {
	bound := map[*binding]version[resolver.Route]{}
	docs := map[*binding]error{} // what is wrong with the documents that name the schema
	var errs []error
	for _, route := range slices.Sorted(maps.Keys(b.routes)) {
		at := b.routes[route]
		var err error
		if at.doc.value.SchemaName() == name {
			var r *resolver.Route
			r, err = b.compile.Bind(at.doc.value, s.latest.value)
			if docs[at] = err; err == nil {
				bound[at] = version[resolver.Route]{r, at.doc.revision}
				continue
			}
		}
		if at.bound.value == nil || at.bound.value.SchemaName() != name {
			continue
		}
		if at.err != nil { // what is in force is an earlier document
			var r *resolver.Route
			if r, err = b.compile.Bind(at.bound.value.Route, s.latest.value); err == nil {
				bound[at] = version[resolver.Route]{r, at.bound.revision}
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("route %s: %w", route, err))
		}
	}
	if len(errs) > 0 {
		s.err = strict.Join(errs)
		b.refuse()
		return
	}
	s.current, s.err = s.latest, nil
	if s.told {
		s.told = false
		b.log.Info("a schema that was refused fits the routes now and is in force", "schema", name)
	}
	for at, v := range bound {
		d.put(at, v)
	}
	for at, err := range docs {
		if at.err = err; err == nil && at.told {
			at.told = false
			b.log.Info("a route that was refused fits its schema now and is in force", "route", at.doc.value.Name)
		}
	}
}

// routeStatus returns what is in force of a route, and why its last good document is not. The revision of what is in
// force is that of doc, which is known already, if it was made of doc: a document may be written again as it is.
func (b *bindings) routeStatus(name string, doc version[spec.Route]) (version[spec.Route], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.routes[name]
	if at == nil {
		return version[spec.Route]{}, nil
	}
	v := version[spec.Route]{at.bound.value.Document(), at.bound.revision}
	if at.err == nil && at.doc.value == doc.value {
		v.revision = doc.revision
	}
	return v, at.err
}

// schemaStatus is routeStatus for a schema.
func (b *bindings) schemaStatus(name string, doc version[schema.Schema]) (version[schema.Schema], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.schemas[name]
	if s == nil {
		return version[schema.Schema]{}, nil
	}
	v := s.current
	if v.value == doc.value {
		v.revision = doc.revision
	}
	return v, s.err
}

// deleted returns the schemas in force that were deleted, by name, and why they are.
func (b *bindings) deleted() map[string]resolver.SchemaStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := map[string]resolver.SchemaStatus{}
	for name, s := range b.schemas {
		if s.latest.value == nil {
			all[name] = resolver.SchemaStatus{Name: name, Schema: s.current.value, Revision: s.current.revision, Err: s.err}
		}
	}
	return all
}

// keepInForce puts what is in force in place of last good documents that are not: a start without etcd knows no other
// version to keep.
func (b *bindings) keepInForce(snap *snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, at := range b.routes {
		if at.err != nil && at.bound.value != nil {
			if doc, err := at.bound.value.Encode(); err == nil { // valid routes have a document
				snap.Routes.Documents[name] = snapshotDocument{Revision: at.bound.revision, Value: doc}
			}
		}
	}
	for name, s := range b.schemas {
		if s.err != nil && s.current.value != nil {
			snap.Schemas.Documents[name] = snapshotDocument{Revision: s.current.revision, Value: s.current.value.Encode()}
		}
	}
}

// rejected counts routes and schemas whose last good document is not in force.
func (b *bindings) rejected() (now int, ever int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, at := range b.routes {
		if at.err != nil {
			now++
		}
	}
	for _, s := range b.schemas {
		if s.err != nil {
			now++
		}
	}
	return now, b.rejections
}
