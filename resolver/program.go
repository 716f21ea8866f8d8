package resolver

import (
	"errors"
	"fmt"

	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/spec"
)

// Compiler makes the program of a valid route, in struct mode or with a schema, from the schema that it names, or nil if
// it names none that is known before there is a call (reflection). It fails if the rules do not fit the schema; the error names
// every rule and field. It may be called by several goroutines.
type Compiler func(r *spec.Route, s *schema.Schema) (any, error)

// ErrNoCompiler is what routes meet that nobody can compile.
var ErrNoCompiler = errors.New("mode struct and schemas are not possible here")

// Route is a valid route that can be put in force: with the program of its calls.
type Route struct {
	*spec.Route
	Program any // what a Compiler made of it; nil for a route in frame mode without a schema
}

// Bind returns routes in frame mode, without schemas, which need no program.
func Bind(routes ...*spec.Route) []*Route {
	all := make([]*Route, len(routes))
	for i, r := range routes {
		all[i] = &Route{Route: r}
	}
	return all
}

// Bind returns a valid route with the program that is made of it and of the schema that it names, nil for none.
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

// MissingSchema is what a route meets whose schema is not in etcd.
func MissingSchema(name string) error {
	return fmt.Errorf("schema.name: %q is not in etcd, want a schema that was put before", name)
}

// Document returns the route, nil for none.
func (r *Route) Document() *spec.Route {
	if r == nil {
		return nil
	}
	return r.Route
}
