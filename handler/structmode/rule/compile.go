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

// maxExpressions bounds the expressions of the rules of a route. An expression of a rule counts once for each type of message that the
// rule is compiled for.
const maxExpressions = 10_000

// compiled is a rule that is compiled for one type of message.
type compiled struct {
	action  Action
	when    *expression // nil means always
	code    codes.Code
	message string
	backend string
	values  []value  // of set
	fields  []path   // of clear and redact
	headers []header // of header
}

// decides reports whether the rule applies to the call, not to a message: it is a route or a header rule.
func (c *compiled) decides() bool { return c.action == ActionRoute || c.action == ActionHeader }

// value is one assignment of a set rule.
type value struct {
	path path
	expr *expression
}

// header is one header of a header rule.
type header struct {
	name string
	expr *expression
}

// Compile compiles the rules of r for every method of files that the route matches. A rule is type-checked for the messages
// of each method that its own pattern selects. The error names every mistake, up to strict.MaxErrors. r.Struct may be nil.
// It is also an error if the schema has no method that the route matches, or none that a rule's pattern matches.
func Compile(r *spec.Route, files *protoregistry.Files) (*Compiled, error) {
	return compileRoute(r, files, (*compiler).unused)
}

// CompileService is Compile for files that are only a part of the schema, such as one service of an endpoint. It is no error
// if the route or a rule matches no method of the part.
func CompileService(r *spec.Route, files *protoregistry.Files) (*Compiled, error) {
	return compileRoute(r, files, func(*compiler, *spec.Route, []method) {})
}

// compileRoute compiles a route. It calls unused to report what of the route matches no method.
func compileRoute(r *spec.Route, files *protoregistry.Files, unused func(*compiler, *spec.Route, []method)) (*Compiled, error) {
	env, err := newEnvironment(files)
	if err != nil {
		return nil, err
	}
	c := &compiler{drafter: drafter{env: env}, done: map[unit]outcome{}, seen: map[string]*mistake{}}
	c.drafter.route(r)
	methods := c.methods(r, files)
	p := &Compiled{methods: make(map[string]*Method, len(methods)), types: env.schema.dynamic, files: files}
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
	c.selections(p, methods)
	unused(c, r, methods)
	for _, m := range c.mistakes {
		c.errs = append(c.errs, m)
	}
	if err := strict.Join(c.errs); err != nil {
		return nil, err
	}
	return p, nil
}

// method is a method of the schema that the route matches.
type method struct {
	path string // /pkg.Service/Method
	desc protoreflect.MethodDescriptor
}

// unit is a rule and a type of message that the rule is compiled for.
type unit struct {
	draft *draft
	typ   protoreflect.FullName
}

// outcome is the result of compiling a unit.
type outcome struct {
	rule     *compiled // nil if there were more than maxExpressions
	mistakes []*mistake
}

// compiler compiles the rules of one route.
type compiler struct {
	drafter
	done        map[unit]outcome
	expressions int                 // compiled so far
	full        bool                // there were more than maxExpressions
	seen        map[string]*mistake // all mistakes, by text
	mistakes    []*mistake          // all mistakes, in the order in which they were found
	current     []*mistake          // the mistakes of the unit that is being compiled
	misfits     []misfit
}

// mistake is a mistake of a rule for the messages of one or more methods. It is an error of the route.
type mistake struct {
	text    string
	method  string // the first method
	methods int    // how many methods
}

func (m *mistake) Error() string {
	if m.methods == 1 {
		return fmt.Sprintf("%s (%s)", m.text, m.method)
	}
	return fmt.Sprintf("%s (%s and %d more)", m.text, m.method, m.methods-1)
}

// wrong records a mistake of the current unit, found for the messages of a method. The same mistake for several methods is
// recorded once, with the number of methods.
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

// methods returns the methods of files that the route matches, sorted by path.
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

// concerns reports whether the rule applies to the messages of one direction of a method.
func (d *draft) concerns(method string, on spec.Direction) bool {
	return d.doc.On == on && (d.pattern == nil || d.pattern.Match(method))
}

// unused records an error if the route matches none of the methods, for each rule whose pattern matches none, and for what fits
// the messages of none.
func (c *compiler) unused(r *spec.Route, methods []method) {
	if len(methods) == 0 {
		written := make([]string, len(r.Match))
		for i, m := range r.Match {
			written[i] = m.Method
		}
		c.fail("match", "the schema has no method of %s, want at least one", strings.Join(written, ", "))
		return
	}
	for _, m := range c.misfits {
		for _, p := range m.problems {
			c.fail(m.key, "%v (%s)", p, m.method)
		}
	}
	c.ignored(r, methods)
	for _, d := range c.drafts {
		if d.faulty || d.pattern == nil {
			continue
		}
		if !slices.ContainsFunc(methods, func(m method) bool { return d.pattern.Match(m.path) }) {
			c.fail(d.key+".method", "%q, want a method of the schema that the route matches", d.doc.Method)
		}
	}
}

// rules returns the rules for the messages of one direction of a method, md being their type.
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

// compile compiles a rule for messages of type md. It records mistakes, and returns nil if there are too many expressions.
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

// clearable returns an error if the action would clear a required field.
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

// expression compiles a condition or the value of a header.
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

// resultFault returns an error if the type got of an expression is wrong: a condition must be a bool, the value of a header
// a string.
func (d *draft) resultFault(t text, got *cel.Type) error {
	switch {
	case t.name != "":
		return resultIs(got, cel.StringType)
	case d.when != nil && t.key == d.when.key:
		return resultIs(got, cel.BoolType)
	}
	return nil
}

// resultIs returns an error unless got is want, nullable or not, or dyn.
func resultIs(got, want *cel.Type) error {
	if isDyn(got) || got.IsExactType(want) || got.IsExactType(cel.NullableType(want)) {
		return nil
	}
	return fmt.Errorf("a value of type %s, want %s", got, want)
}

// checked type-checks an expression and makes its CEL program. If that fails, it records the mistakes and returns nil.
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
	if !target.accepts(a.OutputType()) {
		c.wrong(method, f.key, "%v", wholeOf(a, fmt.Sprintf("a value of type %s, want %s", a.OutputType(), target.acceptedType())))
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
