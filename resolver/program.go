package resolver

import (
	"errors"
	"fmt"

	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/spec"
)

// Compiler compiles the program of a valid route that is in struct mode or has a schema. s is the schema that the route
// names; nil if it names none, or if the schema is known only when there is a call (reflection). It fails if the rules do
// not fit the schema; the error names every rule and field. It may be called by several goroutines at once.
type Compiler func(r *spec.Route, s *schema.Schema) (any, error)

// ErrNoCompiler means that a route needs a program, and there is no Compiler.
var ErrNoCompiler = errors.New("mode struct and schemas are not possible here")

// Route is a valid route with its program, ready to be put in force.
type Route struct {
	*spec.Route
	Program any // that a Compiler returned; nil for a route in frame mode without a schema
}

// Bind returns routes that are in frame mode and have no schema, which need no program.
func Bind(routes ...*spec.Route) []*Route {
	all := make([]*Route, len(routes))
	for i, r := range routes {
		all[i] = &Route{Route: r}
	}
	return all
}

// Bind returns a valid route with its program, which it compiles with the schema s that the route names; nil if it names
// none.
func (c Compiler) Bind(r *spec.Route, s *schema.Schema) (*Route, error) {
	if r.Mode != spec.ModeStruct && r.Schema == nil {
		return &Route{Route: r}, nil
	}
	if c == nil {
		return nil, ErrNoCompiler
	}
	p, err := c(r, s)
	if err != nil {
		return nil, err
	}
	return &Route{r, p}, nil
}

// MissingSchema returns the error for a route whose schema is not in etcd.
func MissingSchema(name string) error {
	return fmt.Errorf("schema.name: %q is not in etcd, want a schema that was put before", name)
}

// Document returns the route's document, nil for a nil Route.
func (r *Route) Document() *spec.Route {
	if r == nil {
		return nil
	}
	return r.Route
}
