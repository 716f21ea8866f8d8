package rule

import (
	"fmt"
	"strings"

	"github.com/google/cel-go/cel"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/framegate/framegate/resolver/spec"
)

// Condition returns the condition of a spec.KeyedCondition of the route for the requests of the method. It returns nil if the
// condition does not fit their type, so that none of them meets it.
func (m *Method) Condition(key string) *Condition { return m.conditions[key] }

// conditions checks what of the conditions on messages does not depend on a schema.
func (d *drafter) conditions(r *spec.Route) {
	for _, c := range r.Conditions() {
		t := text{key: c.Key + ".when", source: c.When}
		before := len(d.errs)
		if d.text(t); len(d.errs) > before {
			continue
		}
		d.tests = append(d.tests, test{c.Key, t})
	}
}

// test is a condition on messages whose syntax is right.
type test struct {
	key string // of spec.KeyedCondition
	text
}

// condition compiles a condition for messages of type md. It returns what is wrong, which may only be wrong for this type.
func (c *compiler) condition(t test, md protoreflect.MessageDescriptor) (*Condition, []problem) {
	a, problems := c.env.check(t.source, md)
	if len(problems) > 0 {
		return nil, problems
	}
	if err := resultIs(a.OutputType(), cel.BoolType); err != nil {
		return nil, []problem{wholeOf(a, err.Error())}
	}
	x, err := c.env.plan(t.text.key, a, md)
	if err != nil {
		return nil, []problem{{msg: err.Error()}}
	}
	return &Condition{schema: c.env.schema, expr: x}, nil
}

// selections compiles the conditions on the messages of the methods. A condition must fit the requests of at least one of them.
func (c *compiler) selections(p *Compiled, methods []method) {
	for _, t := range c.tests {
		fits := false
		done := map[protoreflect.FullName]*Condition{}
		var first []problem
		for _, m := range methods {
			md := m.desc.Input()
			condition, ok := done[md.FullName()]
			if !ok {
				if c.expressions++; c.expressions > maxExpressions {
					return
				}
				var problems []problem
				if condition, problems = c.condition(t, md); first == nil {
					first = problems
				}
				done[md.FullName()] = condition
			}
			if condition == nil || p.methods[m.path] == nil {
				continue
			}
			fits = true
			at := p.methods[m.path]
			if at.conditions == nil {
				at.conditions = map[string]*Condition{}
			}
			at.conditions[t.key] = condition
		}
		if !fits && len(methods) > 0 {
			c.misfits = append(c.misfits, misfit{t.text.key, first, methods[0].path})
		}
	}
}

// misfit is a condition that fits the requests of none of the methods.
type misfit struct {
	key      string
	problems []problem // for the requests of the first method
	method   string
}

// ignored checks that the fields that comparisons ignore are in the answers of at least one of the methods.
func (c *compiler) ignored(r *spec.Route, methods []method) {
	for i := range r.Mirrors {
		if r.Mirrors[i].Compare == nil {
			continue
		}
		for j, path := range r.Mirrors[i].Compare.Ignore {
			fields, ok := strings.CutPrefix(path, spec.IgnoreMessage)
			if !ok || len(methods) == 0 {
				continue
			}
			found := false
			for _, m := range methods {
				found = found || hasField(m.desc.Output(), strings.Split(fields, "."))
			}
			if !found {
				c.fail(fmt.Sprintf("mirrors[%d].compare.ignore[%d]", i, j), "%q, want a field of an answer of the route's methods", path)
			}
		}
	}
}

// hasField reports whether messages of type md have a field at the end of the path.
func hasField(md protoreflect.MessageDescriptor, path []string) bool {
	fd := md.Fields().ByName(protoreflect.Name(path[0]))
	switch {
	case fd == nil:
		return false
	case len(path) == 1:
		return true
	case fd.IsMap():
		fd = fd.MapValue()
	}
	return fd.Message() != nil && hasField(fd.Message(), path[1:])
}
