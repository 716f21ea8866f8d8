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

// bindings puts the routes and the schemas of a source in force together, because the rules of a route must fit the schema
// that the route names. A route comes into force if it fits the schema in force; a schema comes into force if every route
// in force that names it fits it. A version that does not fit is refused, and the version in force before it stays:
//
//	route changes ──fits its schema in force──> in force
//	              └─else────────────────────> refused until either changes; its last version in force stays
//	schema changes ──routes in force fit it──> in force, with new programs for all of them
//	               └─else───────────────────> refused until either changes; the schema in force stays
//	schema is deleted ──────────────────────> in force as long as a route in force was compiled with it
type bindings struct {
	// set once
	compile resolver.Compiler
	apply   func(gone, added []*resolver.Route) // puts routes in force
	log     *slog.Logger
	refused chan struct{} // has room for one; filled when a refusal is to be logged, see logRefusals

	mu         sync.Mutex // guards what follows
	routes     map[string]*binding
	schemas    map[string]*boundSchema
	rejections int64 // refusals that were logged
}

// version is a version of a document in etcd. The zero value stands for a document that does not exist.
type version[T any] struct {
	value    *T
	revision int64 // etcd's, of its last change
}

// binding is one route: its last good document, and the version in force, which may be an earlier one.
type binding struct {
	doc    version[spec.Route]
	bound  version[resolver.Route] // in force; the zero value if no version is
	err    error                   // why doc is not in force; nil if it is
	since  time.Time               // when doc came
	logged bool                    // the refusal of doc was logged and counted
}

// boundSchema is one schema: its last good document, and the version in force, which may be an earlier one.
type boundSchema struct {
	current version[schema.Schema] // in force; the zero value if no version is
	latest  version[schema.Schema] // the last good document; the zero value if it was deleted
	err     error                  // why latest is not in force; nil if it is
	since   time.Time              // when latest came
	logged  bool                   // the refusal of latest was logged and counted
}

func newBindings(compile resolver.Compiler, apply func(gone, added []*resolver.Route), log *slog.Logger) *bindings {
	return &bindings{
		compile: compile, apply: apply, log: log, refused: make(chan struct{}, 1),
		routes: map[string]*binding{}, schemas: map[string]*boundSchema{},
	}
}

// delta is a change of the routes in force that is not applied yet. It maps each route that gets another version to the
// version that was in force before the change, nil if none was. Within one change a route may get several versions; only
// the last one is applied.
type delta map[*binding]*resolver.Route

// put makes v the version of the route that is in force once the delta is applied.
func (d delta) put(at *binding, v version[resolver.Route]) {
	if _, ok := d[at]; !ok {
		d[at] = at.bound.value
	}
	at.bound = v
}

// setRoutes takes the last good documents of the routes that changed, by name, and puts those in force that fit their
// schemas. The zero version stands for a route that was deleted. A schema that was refused because of one of these routes
// is tried again.
func (b *bindings) setRoutes(docs map[string]version[spec.Route]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := delta{}
	retry := map[string]bool{} // the schemas that any version of these routes names
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
		at.since, at.logged = time.Now(), false
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

// compiled compiles a route with the schema in force that it names.
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

// setSchemas takes the last good documents of the schemas that changed, by name, and puts those in force that the routes in
// force fit. The zero version stands for a schema that was deleted: it stays in force while a route in force names it.
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
		s.latest, s.since, s.logged = docs[name], time.Now(), false
		if s.latest.value != nil {
			b.adopt(name, s, d)
		} else if route := b.userOf(name); route != "" {
			s.err = fmt.Errorf("deleted, but route %s uses it; its last version stays in force", route)
			b.refuse()
		}
	}
	b.finish(d)
}

// finish applies d, and forgets the deleted schemas that no route in force names any more.
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

// refuse wakes the goroutine that logs refusals.
func (b *bindings) refuse() {
	select {
	case b.refused <- struct{}{}:
	default:
	}
}

// logRefusals logs and counts the refused versions that came before a time, each once. The goroutine that refused wakes
// calls it a moment later, because a route and the schema that it needs may arrive one after the other in any order: a
// route that is refused until its schema arrives is no mistake of anybody.
func (b *bindings) logRefusals(before time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(b.schemas)) {
		s := b.schemas[name]
		switch {
		case s.err == nil || s.logged:
			continue
		case !s.since.Before(before):
			b.refuse()
			continue
		}
		s.logged = true
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
		case at.err == nil || at.logged:
			continue
		case !at.since.Before(before):
			b.refuse()
			continue
		}
		at.logged = true
		b.rejections++
		stays := "no version of it is in force"
		if at.bound.value != nil {
			stays = "its last good version stays in force"
		}
		b.log.Error("a route does not fit its schema; "+stays, "route", name, "error", at.err)
	}
}

// userOf returns the name of the first route in force, by name, that names a schema; "" if none does.
func (b *bindings) userOf(schema string) (user string) {
	for name, at := range b.routes {
		if at.bound.value != nil && at.bound.value.SchemaName() == schema && (user == "" || name < user) {
			user = name
		}
	}
	return user
}

// adopt puts the last version of a schema in force if every route in force that names it fits it, and else refuses it.
// A route's document that was refused before does not count against the schema, and comes into force if it fits now.
func (b *bindings) adopt(name string, s *boundSchema, d delta) {
	bound := map[*binding]version[resolver.Route]{} // the routes that fit, compiled with the schema
	docs := map[*binding]error{}                    // why the last good document of a route does not fit; nil if it does
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
		if at.err != nil { // an earlier document is in force
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
	if s.logged {
		s.logged = false
		b.log.Info("a schema that was refused fits the routes now and is in force", "schema", name)
	}
	for at, v := range bound {
		d.put(at, v)
	}
	for at, err := range docs {
		if at.err = err; err == nil && at.logged {
			at.logged = false
			b.log.Info("a route that was refused fits its schema now and is in force", "route", at.doc.value.Name)
		}
	}
}

// routeStatus returns the version of a route that is in force, and why doc, its last good document, is not; nil if it is.
// The version has the revision of doc if it was compiled from it: when a document is written again with the same content,
// only its revision changes, and bindings does not hear of that.
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

// schemaStatus does for a schema what routeStatus does for a route.
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

// deleted returns the schemas that were deleted and are still in force, by name. The Err of each names a route that uses it.
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

// keepInForce replaces each document in the snapshot that was refused by the version in force: after a start without
// etcd, the snapshot is the only source of versions that fit together.
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
