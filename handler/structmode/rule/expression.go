package rule

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

const maxExpressionBytes = 4096

// environment compiles expressions for the messages of one schema.
type environment struct {
	env      *cel.Env // without message
	schema   *schema  // nil when the types of messages are not known
	typed    map[protoreflect.FullName]*cel.Env
	patterns patterns
}

// newEnvironment makes an environment. files may be nil: then message may be anything.
func newEnvironment(files *protoregistry.Files) (*environment, error) {
	opts, err := textEnv()
	if err != nil {
		return nil, err
	}
	opts = append(opts,
		cel.OptionalTypes(), cel.DefaultUTCTimeZone(true), cel.CrossTypeNumericComparisons(true),
		cel.ParserExpressionSizeLimit(maxExpressionBytes),
	)
	env, err := cel.NewEnv(append(opts, variables()...)...)
	if err != nil {
		return nil, err
	}
	e := &environment{env: env, typed: map[protoreflect.FullName]*cel.Env{}, patterns: patterns{known: map[string]*pattern{}}}
	if files == nil {
		return e, nil
	}
	e.schema, err = newSchema(files, env.CELTypeProvider(), env.CELTypeAdapter())
	if err != nil {
		return nil, err
	}
	e.env, err = env.Extend(cel.CustomTypeAdapter(e.schema), cel.CustomTypeProvider(e.schema))
	return e, err
}

// of returns the CEL environment in which message is of type md; nil means any type.
func (e *environment) of(md protoreflect.MessageDescriptor) (*cel.Env, error) {
	var name protoreflect.FullName
	typ := cel.DynType
	if md != nil {
		name, typ = md.FullName(), cel.ObjectType(string(md.FullName()))
	}
	if env := e.typed[name]; env != nil {
		return env, nil
	}
	env, err := e.env.Extend(cel.Variable("message", typ))
	if err == nil {
		e.typed[name] = env
	}
	return env, err
}

// problem is one mistake in an expression.
type problem struct {
	line, column int // 1-based; 0 for the expression as a whole
	msg          string
}

func (p problem) Error() string {
	if p.line == 0 {
		return p.msg
	}
	return fmt.Sprintf("%d:%d: %s", p.line, p.column, p.msg)
}

func problemAt(at common.Location, msg string) problem {
	msg = strings.TrimSuffix(strings.Join(strings.Fields(msg), " "), " (in container '')")
	return problem{line: at.Line(), column: at.Column() + 1, msg: msg}
}

// wholeOf is a mistake of a whole expression, where its operator is.
func wholeOf(a *cel.Ast, msg string) problem {
	return problemAt(a.NativeRep().SourceInfo().GetStartLocation(a.NativeRep().Expr().ID()), msg)
}

// parse reports what is wrong with the text of an expression whatever the types are.
func (e *environment) parse(text string) []problem {
	if len(text) > maxExpressionBytes {
		return []problem{{msg: fmt.Sprintf("an expression of %d bytes, want at most %d", len(text), maxExpressionBytes)}}
	}
	if strings.TrimSpace(text) == "" {
		return []problem{{msg: `"", want an expression`}}
	}
	_, iss := e.env.Parse(text)
	return problemsOf(iss)
}

func problemsOf(iss *cel.Issues) (problems []problem) {
	for _, err := range iss.Errors() {
		problems = append(problems, problemAt(err.Location, err.Message))
	}
	return problems
}

// check type-checks an expression on messages of type md. With a nil md, what could be the name of a type or of an enum
// is taken for one; the result is then nil if there is such a name.
func (e *environment) check(text string, md protoreflect.MessageDescriptor) (*cel.Ast, []problem) {
	env, err := e.of(md)
	if err != nil {
		return nil, []problem{{msg: err.Error()}}
	}
	parsed, iss := env.Parse(text)
	if iss.Err() != nil {
		return nil, problemsOf(iss)
	}
	names := map[int64]bool{}
	if md == nil {
		names = possibleNames(parsed.NativeRep())
	}
	a, iss := env.Check(parsed)
	if iss.Err() != nil {
		var problems []problem
		for _, err := range iss.Errors() {
			if !names[err.ExprID] || !strings.HasPrefix(err.Message, "undeclared reference") {
				problems = append(problems, problemAt(err.Location, err.Message))
			}
		}
		return nil, problems
	}
	var problems []problem
	for _, f := range e.patterns.validate(a.NativeRep()) {
		problems = append(problems, problemAt(a.NativeRep().SourceInfo().GetStartLocation(f.id), f.msg))
	}
	if md != nil && len(problems) == 0 {
		cost, err := env.EstimateCost(a, estimator{&e.patterns})
		switch {
		case err != nil:
			problems = append(problems, problem{msg: err.Error()})
		case cost.Max > MaxCost:
			problems = append(problems, wholeOf(a, fmt.Sprintf(
				"costs up to %d, want at most %d: loops in loops and long texts in loops do that", cost.Max, MaxCost)))
		}
	}
	return a, problems
}

// possibleNames finds the expressions that may be names of a schema: the beginning of a.b.C, and T of T{}.
func possibleNames(a *ast.AST) map[int64]bool {
	names := map[int64]bool{}
	ast.PostOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.StructKind:
			names[e.ID()] = true
		case ast.SelectKind:
			if op := e.AsSelect().Operand(); op.Kind() == ast.IdentKind {
				names[op.ID()] = true
			}
		}
	}))
	return names
}

// expression is compiled and ready to be evaluated. It is immutable, and safe for concurrent use.
type expression struct {
	key  string // for errors
	prog cel.Program
}

// plan makes a checked expression ready.
func (e *environment) plan(key string, a *cel.Ast, md protoreflect.MessageDescriptor) (*expression, error) {
	env, err := e.of(md)
	if err != nil {
		return nil, err
	}
	var opts []cel.ProgramOption
	if usesMatches(a.NativeRep()) { // the optimizer would put its own matches there, without a bound
		opts = append(opts, e.patterns.program())
	} else {
		opts = append(opts, cel.EvalOptions(cel.OptOptimize))
	}
	if !isDirect(a.NativeRep()) {
		opts = append(opts, countCalls())
	}
	prog, err := env.Program(a, opts...)
	if err != nil {
		return nil, err
	}
	return &expression{key: key, prog: prog}, nil
}

func usesMatches(a *ast.AST) bool {
	found := false
	ast.PostOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		found = found || e.Kind() == ast.CallKind && e.AsCall().FunctionName() == "matches"
	}))
	return found
}

// maxReason is how much of a reason an EvalError keeps: it may quote the message.
const maxReason = 512

func (x *expression) fail(err error) *EvalError {
	if msg := err.Error(); len(msg) > maxReason {
		err = errors.New(strings.ToValidUTF8(msg[:maxReason], "") + "…")
	}
	return &EvalError{Key: x.key, Err: err}
}

// eval returns the value, which may share memory with the message.
func (x *expression) eval(a *activation) (ref.Val, error) {
	a.meter.next()
	v, _, err := x.prog.Eval(a)
	if a.meter.over != nil { // whatever came of it
		return nil, x.fail(a.meter.over)
	}
	if err != nil {
		return nil, x.fail(err)
	}
	if types.IsUnknownOrError(v) {
		return nil, x.fail(errors.New("a value that is not known"))
	}
	return v, nil
}

// test evaluates a condition.
func (x *expression) test(a *activation) (bool, error) {
	v, err := x.eval(a)
	if err != nil {
		return false, err
	}
	b, ok := v.(types.Bool)
	if !ok {
		return false, x.fail(mismatch(v, "bool"))
	}
	return bool(b), nil
}
