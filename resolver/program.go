package resolver

import (
	"errors"
	"fmt"

	"github.com/framegate/framegate/resolver/schema"
)

// Compiler makes the program of a valid route, in struct mode or with a schema, from the schema that it names, or nil if
// it names none that is known before there is a call (reflection). It fails if the rules do not fit the schema; the error names
// every rule and field. It may be called by several goroutines.
type Compiler func(r *Route, s *schema.Schema) (any, error)

// errNoCompiler is what routes meet that nobody can compile.
var errNoCompiler = errors.New("mode struct and schemas are not possible here")

// BoundRoute is a valid route that can be put in force: with the program of its calls.
type BoundRoute struct {
	*Route
	Program any // what a Compiler made of it; nil for a route in frame mode without a schema
}

// Bind returns routes in frame mode, without schemas, which need no program.
func Bind(routes ...*Route) []*BoundRoute {
	all := make([]*BoundRoute, len(routes))
	for i, r := range routes {
		all[i] = &BoundRoute{Route: r}
	}
	return all
}

// Bind returns a valid route with the program that is made of it and of the schema that it names, nil for none.
func (c Compiler) Bind(r *Route, s *schema.Schema) (*BoundRoute, error) {
	if r.Mode != ModeStruct && r.Schema == nil {
		return &BoundRoute{Route: r}, nil
	}
	if c == nil {
		return nil, errNoCompiler
	}
	p, err := c(r, s)
	if err != nil {
		return nil, err
	}
	return &BoundRoute{r, p}, nil
}

// errNoSchema is what a route meets whose schema is not in etcd.
func errNoSchema(name string) error {
	return fmt.Errorf("schema.name: %q is not in etcd, want a schema that was put before", name)
}

// document returns the route, nil for none.
func (r *BoundRoute) document() *Route {
	if r == nil {
		return nil
	}
	return r.Route
}
