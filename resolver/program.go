package resolver

import (
	"errors"
	"fmt"

	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/strict"
)

// Program is what a Compiler made of a route. Whoever handles calls knows what it is.
type Program any

// Compiler makes the program of a valid route, in struct mode or with a schema, from the schema that it names, or nil if
// it names none that is known before there is a call (reflection). It fails if the rules do not fit the schema; the error names
// every rule and field. It may be called by several goroutines.
type Compiler func(r *Route, s *schema.Schema) (Program, error)

// errNoCompiler is what routes meet that nobody can compile.
var errNoCompiler = errors.New("mode struct and schemas are not possible here")

// compiled returns a copy of a valid route with its program.
func (c Compiler) compiled(r *Route, s *schema.Schema) (*Route, error) {
	if r.Mode != ModeStruct && r.Schema == nil {
		return r, nil
	}
	if c == nil {
		return nil, errNoCompiler
	}
	p, err := c(r, s)
	if err != nil {
		return nil, err
	}
	with := *r
	with.program = p
	return &with, nil
}

// schemaName returns the name of the schema in etcd that the route's program is made of, or "".
func (r *Route) schemaName() string {
	if r.Schema == nil {
		return ""
	}
	return r.Schema.Name
}

// errNoSchema is what a route meets whose schema is not in etcd.
func errNoSchema(name string) error {
	return fmt.Errorf("schema.name: %q is not in etcd, want a schema that was put before", name)
}

// InvalidError says what is wrong with routes that were to be stored, or with a schema for routes in etcd. Nothing was
// stored.
type InvalidError struct{ Err error }

func (e *InvalidError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong, joined.
func (e *InvalidError) Unwrap() error { return e.Err }

// invalid returns an InvalidError of all mistakes, or nil if there are none.
func invalid(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	return &InvalidError{strict.Join(errs)}
}
