package rule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/resolver/strict"
)

// maxExpressions bounds the expressions of a Program: a rule's are compiled once for each type of message.
const maxExpressions = 10_000

// compiled is a rule for one type of message.
type compiled struct {
	action  Action
	when    *expression // nil means always
	code    codes.Code
	message string
	backend string
	values  []value
	fields  []path
	headers []header
}

// decides reports whether the rule decides about the call rather than about a message.
func (c *compiled) decides() bool { return c.action == ActionRoute || c.action == ActionHeader }

type value struct {
	path path
	expr *expression
}

type header struct {
	name string
	expr *expression
}

// Compile type-checks the rules of r against every method of files that the route's match patterns and the rule's own
// select. The error names every mistake, up to strict.MaxErrors. r.Struct may be nil. It is also an error if the schema
// has no method that the route matches, or none that a rule is for.
func Compile(r *spec.Route, files *protoregistry.Files) (*Program, error) {
	return compileRoute(r, files, (*compiler).unused)
}

// CompileService is Compile for files that are a part of the schema, such as one service of an endpoint: the route and
// its rules may be for others.
func CompileService(r *spec.Route, files *protoregistry.Files) (*Program, error) {
	return compileRoute(r, files, func(*compiler, *spec.Route, []method) {})
}

// compileRoute compiles a route; unused notes what it has for nothing.
func compileRoute(r *spec.Route, files *protoregistry.Files, unused func(*compiler, *spec.Route, []method)) (*Program, error) {
	env, err := newEnvironment(files)
	if err != nil {
		return nil, err
	}
	c := &compiler{drafter: drafter{env: env}, done: map[unit]outcome{}, seen: map[string]*mistake{}}
	c.drafter.route(r)
	methods := c.methods(r, files)
	p := &Program{methods: make(map[string]*Method, len(methods)), types: env.schema.dynamic, files: files}
	types := map[protoreflect.FullName]protoreflect.MessageType{}
	for _, m := range methods {
		if c.full {
			break
		}
		p.methods[m.path] = &Method{
			Descriptor: m.desc,
			Request:    c.rules(m, spec.OnRequest, m.desc.Input(), types),
			Response:   c.rules(m, spec.OnResponse, m.desc.Output(), types),
		}
	}
	unused(c, r, methods)
	for _, m := range c.mistakes {
		c.errs = append(c.errs, m)
	}
	if err := strict.Join(c.errs); err != nil {
		return nil, err
	}
	return p, nil
}

type method struct {
	path string
	desc protoreflect.MethodDescriptor
}

// unit is what a rule is compiled for.
type unit struct {
	draft *draft
	typ   protoreflect.FullName
}

// outcome is what became of a unit.
type outcome struct {
	rule     *compiled // nil if there were too many
	mistakes []*mistake
}

type compiler struct {
	drafter
	done        map[unit]outcome
	expressions int
	full        bool                // there were more than maxExpressions
	seen        map[string]*mistake // by text
	mistakes    []*mistake          // all
	current     []*mistake          // of the unit that is being compiled
}

// mistake is a mistake of a rule for some methods.
type mistake struct {
	text    string
	method  string // the first one
	methods int
}

func (m *mistake) Error() string {
	if m.methods == 1 {
		return fmt.Sprintf("%s (%s)", m.text, m.method)
	}
	return fmt.Sprintf("%s (%s and %d more)", m.text, m.method, m.methods-1)
}

// wrong notes a mistake that has to do with the types of a method.
func (c *compiler) wrong(method, key, format string, args ...any) {
	text := key + ": " + fmt.Sprintf(format, args...)
	m := c.seen[text]
	if m == nil {
		m = &mistake{text: text, method: method}
		c.seen[text] = m
		c.mistakes = append(c.mistakes, m)
	}
	if !slices.Contains(c.current, m) {
		m.methods++
		c.current = append(c.current, m)
	}
}

// methods returns the methods of files that the route matches, by name.
func (c *compiler) methods(r *spec.Route, files *protoregistry.Files) []method {
	var patterns []spec.Pattern
	for i, m := range r.Match {
		p, err := spec.ParsePattern(m.Method)
		if err != nil {
			c.fail(fmt.Sprintf("match[%d].method", i), "%v", err)
			continue
		}
		patterns = append(patterns, p)
	}
	var methods []method
	files.RangeFiles(func(fd protoreflect.FileDescriptor) bool {
		for i := range fd.Services().Len() {
			service := fd.Services().Get(i)
			for j := range service.Methods().Len() {
				desc := service.Methods().Get(j)
				path := "/" + string(service.FullName()) + "/" + string(desc.Name())
				if slices.ContainsFunc(patterns, func(p spec.Pattern) bool { return p.Match(path) }) {
					methods = append(methods, method{path, desc})
				}
			}
		}
		return true
	})
	slices.SortFunc(methods, func(a, b method) int { return cmp.Compare(a.path, b.path) })
	return methods
}

// concerns reports whether the rule is for the messages of a method that go in a direction.
func (d *draft) concerns(method string, on spec.Direction) bool {
	return d.doc.On == on && (d.pattern == nil || d.pattern.Match(method))
}

// unused reports rules that no method is concerned by.
func (c *compiler) unused(r *spec.Route, methods []method) {
	if len(methods) == 0 {
		written := make([]string, len(r.Match))
		for i, m := range r.Match {
			written[i] = m.Method
		}
		c.fail("match", "the schema has no method of %s, want at least one", strings.Join(written, ", "))
		return
	}
	for _, d := range c.drafts {
		if d.faulty || d.pattern == nil {
			continue
		}
		if !slices.ContainsFunc(methods, func(m method) bool { return d.pattern.Match(m.path) }) {
			c.fail(d.key+".method", "%q, want a method of the schema that the route matches", d.doc.Method)
		}
	}
}

// rules compiles the rules for the messages of one direction of a method.
func (c *compiler) rules(m method, on spec.Direction, md protoreflect.MessageDescriptor,
	types map[protoreflect.FullName]protoreflect.MessageType) *Rules {
	typ := types[md.FullName()]
	if typ == nil {
		typ = dynamicpb.NewMessageType(md)
		types[md.FullName()] = typ
	}
	r := &Rules{schema: c.env.schema, typ: typ}
	for _, d := range c.drafts {
		if d.faulty || !d.concerns(m.path, on) {
			continue
		}
		one, ok := c.done[unit{d, md.FullName()}]
		if !ok {
			c.current = nil
			one.rule = c.compile(d, m.path, md)
			one.mistakes = c.current
			c.done[unit{d, md.FullName()}] = one
		} else {
			for _, mistake := range one.mistakes {
				mistake.methods++
			}
		}
		if one.rule == nil || len(one.mistakes) > 0 {
			continue
		}
		r.rules = append(r.rules, one.rule)
		r.change = r.change || d.action == ActionSet || d.action == ActionClear || d.action == ActionRedact
		r.deferred = r.deferred || one.rule.decides()
	}
	if r.deferred {
		rest := *r
		rest.rules, rest.deferred = slices.DeleteFunc(slices.Clone(r.rules), (*compiled).decides), false
		r.rest = &rest
	}
	return r
}

func (c *compiler) compile(d *draft, method string, md protoreflect.MessageDescriptor) *compiled {
	c.expressions += len(d.texts())
	if c.expressions > maxExpressions {
		if !c.full {
			c.fail("struct.rules", "more than %d expressions, counted once for each type of message, want at most that; "+
				"name fewer methods", maxExpressions)
		}
		c.full = true
		return nil
	}
	out := &compiled{action: d.action, code: d.code, message: d.message, backend: d.doc.Backend}
	if d.when != nil {
		out.when = c.expression(d, *d.when, method, md)
	}
	for _, t := range d.headers {
		out.headers = append(out.headers, header{t.name, c.expression(d, t, method, md)})
	}
	for _, f := range d.fields {
		p, err := f.path.resolve(md)
		if err == nil {
			err = p.clearable(d.action)
		}
		if err != nil {
			c.wrong(method, f.key, "%v", err)
			continue
		}
		out.fields = append(out.fields, p)
	}
	for _, f := range d.values {
		if v, ok := c.value(f, method, md); ok {
			out.values = append(out.values, v)
		}
	}
	return out
}

// clearable reports an error if the action would take a value away that must be there.
func (p path) clearable(action Action) error {
	st := p[len(p)-1]
	if st.fd.Cardinality() != protoreflect.Required {
		return nil
	}
	if _, ok := redactedValue(st.fd); ok && action == ActionRedact {
		return nil
	}
	return fmt.Errorf("%s is required, want a field that may be absent", st.fd.FullName())
}

// expression compiles an expression of d other than those of set.
func (c *compiler) expression(d *draft, t text, method string, md protoreflect.MessageDescriptor) *expression {
	a, x := c.checked(t, method, md)
	if a == nil {
		return nil
	}
	if err := d.resultFault(t, a.OutputType()); err != nil {
		c.wrong(method, t.key, "%v", wholeOf(a, err.Error()))
	}
	return x
}

// resultFault reports an error if an expression of a condition or a header gives something else than it must.
func (d *draft) resultFault(t text, got *cel.Type) error {
	switch {
	case t.name != "":
		return resultIs(got, cel.StringType)
	case d.when != nil && t.key == d.when.key:
		return resultIs(got, cel.BoolType)
	}
	return nil
}

func resultIs(got, want *cel.Type) error {
	if isDyn(got) || got.IsExactType(want) || got.IsExactType(cel.NullableType(want)) {
		return nil
	}
	return fmt.Errorf("a value of type %s, want %s", got, want)
}

// checked type-checks and plans an expression; the results are nil if that fails.
func (c *compiler) checked(t text, method string, md protoreflect.MessageDescriptor) (*cel.Ast, *expression) {
	a, problems := c.env.check(t.source, md)
	for _, p := range problems {
		c.wrong(method, t.key, "%v", p)
	}
	if len(problems) > 0 {
		return nil, nil
	}
	x, err := c.env.plan(t.key, a, md)
	if err != nil {
		c.wrong(method, t.key, "%v", err)
		return nil, nil
	}
	return a, x
}

// value compiles one assignment of set.
func (c *compiler) value(f field, method string, md protoreflect.MessageDescriptor) (value, bool) {
	p, err := f.path.resolve(md)
	if err != nil {
		c.wrong(method, f.key, "%v", err)
	}
	a, x := c.checked(f.text, method, md)
	if a == nil || err != nil {
		return value{}, false
	}
	target := p[len(p)-1]
	if !target.takes(a.OutputType()) {
		c.wrong(method, f.key, "%v", wholeOf(a, fmt.Sprintf("a value of type %s, want %s", a.OutputType(), target.wants())))
		return value{}, false
	}
	if e := a.NativeRep().Expr(); e.Kind() == ast.LiteralKind {
		if _, err := c.env.schema.stepValue(&target, e.AsLiteral()); err != nil {
			c.wrong(method, f.key, "%v", err)
			return value{}, false
		}
	}
	return value{p, x}, true
}
