package resolver

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/framegate/framegate/conf/strict"
	"github.com/framegate/framegate/resolver/schema"
)

// bindings hold the routes of a source together with the schemas that those in struct mode name. A route is in force
// when it fits its schema; a schema is, when every route in force fits it. What does not fit is refused, and the last
// version that did stays:
//
//	route changes ──fits its schema in force──> in force
//	              └─else────────────────────> refused until either changes; its last version in force stays
//	schema changes ──routes fit it───────────> in force, with new programs for all of them
//	               └─else───────────────────> refused until either changes; the schema in force stays
type bindings struct {
	// set once
	compile Compiler
	apply   func(gone, added []*Route) // puts routes in force
	log     *slog.Logger

	mu         sync.Mutex // guards what follows
	routes     map[string]*binding
	schemas    map[string]*boundSchema
	rejections int64 // versions that were refused
}

// binding is one route.
type binding struct {
	doc   *Route // the last good document
	bound *Route // in force, with its program; nil if no version is
	err   error  // why doc is not
}

// boundSchema is one schema.
type boundSchema struct {
	current *schema.Schema // in force; nil if none is
	latest  *schema.Schema // the last good document; nil if it was deleted
	err     error          // why latest is not in force
}

func newBindings(compile Compiler, apply func(gone, added []*Route), log *slog.Logger) *bindings {
	return &bindings{compile: compile, apply: apply, log: log, routes: map[string]*binding{}, schemas: map[string]*boundSchema{}}
}

// delta is what comes into force and what goes.
type delta struct{ gone, added []*Route }

// put makes route the version of b that is in force; nil for none.
func (d *delta) put(b *binding, route *Route) {
	if b.bound != nil {
		d.gone = append(d.gone, b.bound)
	}
	if route != nil {
		d.added = append(d.added, route)
	}
	b.bound = route
}

// setRoutes notes the last good documents of some routes, nil for one that was deleted, and puts those that fit in force.
func (b *bindings) setRoutes(docs map[string]*Route) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var d delta
	retry := map[string]bool{} // schemas that were refused, maybe for what these routes were
	for name, doc := range docs {
		at := b.routes[name]
		if at == nil {
			at = &binding{}
			b.routes[name] = at
		}
		for _, version := range []*Route{at.doc, doc} {
			if version != nil {
				retry[version.schemaName()] = true
			}
		}
		at.doc = doc
		if doc == nil {
			d.put(at, nil)
			delete(b.routes, name)
			continue
		}
		b.bind(at, &d)
	}
	for name := range retry {
		if s := b.schemas[name]; s != nil && s.err != nil {
			b.adopt(name, s, &d)
		}
	}
	b.apply(d.gone, d.added)
}

// bind puts the document of a route in force if it fits.
func (b *bindings) bind(at *binding, d *delta) {
	bound, err := b.compiled(at.doc)
	at.err = err
	if err != nil {
		b.rejections++
		stays := "no version of it is in force"
		if at.bound != nil {
			stays = "its last good version stays in force"
		}
		b.log.Error("a route does not fit its schema; "+stays, "route", at.doc.Name, "error", err)
		return
	}
	d.put(at, bound)
}

func (b *bindings) compiled(doc *Route) (*Route, error) {
	name := doc.schemaName()
	if name == "" {
		return b.compile.compiled(doc, nil)
	}
	s := b.schemas[name]
	if s == nil || s.current == nil {
		return nil, errNoSchema(name)
	}
	return b.compile.compiled(doc, s.current)
}

// setSchemas notes the last good documents of some schemas, nil for one that was deleted, and puts those that fit in
// force. What routes have of a deleted schema stays.
func (b *bindings) setSchemas(docs map[string]*schema.Schema) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var d delta
	for name, doc := range docs {
		s := b.schemas[name]
		if s == nil {
			s = &boundSchema{}
			b.schemas[name] = s
		}
		s.latest = doc
		if doc == nil {
			b.forget(name, s)
			continue
		}
		b.adopt(name, s, &d)
	}
	b.apply(d.gone, d.added)
}

// forget drops a deleted schema as soon as no route uses it.
func (b *bindings) forget(name string, s *boundSchema) {
	for route, at := range b.routes {
		if at.doc.schemaName() == name || at.bound != nil && at.bound.schemaName() == name {
			s.err = fmt.Errorf("deleted, but route %s uses it; its last version stays in force", route)
			return
		}
	}
	delete(b.schemas, name)
}

// adopt puts the last version of a schema in force if the routes fit it. Routes that did not fit the one before do not
// hold it up.
func (b *bindings) adopt(name string, s *boundSchema, d *delta) {
	if s.latest == nil {
		b.forget(name, s)
		return
	}
	bound := map[*binding]*Route{}
	var errs []error
	for _, route := range slices.Sorted(maps.Keys(b.routes)) {
		at := b.routes[route]
		if at.doc.schemaName() != name {
			continue
		}
		r, err := b.compile.compiled(at.doc, s.latest)
		if err == nil {
			bound[at] = r
			continue
		}
		if at.err == nil {
			errs = append(errs, fmt.Errorf("route %s: %w", route, err))
		} else {
			at.err = err
		}
	}
	if len(errs) > 0 && s.current != nil {
		s.err = strict.Join(errs)
		b.rejections++
		b.log.Error("a schema does not fit the routes that use it; its last good version stays in force", "schema", name, "error", s.err)
		return
	}
	s.current, s.err = s.latest, nil
	for at, r := range bound {
		at.err = nil
		d.put(at, r)
	}
}

// routeStatus returns what is in force of a route, and why its last good document is not.
func (b *bindings) routeStatus(name string) (*Route, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at := b.routes[name]; at != nil {
		return at.bound, at.err
	}
	return nil, nil
}

// schemaStatus returns what is in force of a schema, and why its last good document is not.
func (b *bindings) schemaStatus(name string) (*schema.Schema, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.schemas[name]; s != nil {
		return s.current, s.err
	}
	return nil, nil
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
