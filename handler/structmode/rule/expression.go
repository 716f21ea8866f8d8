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

// environment compiles expressions on the messages of one schema.
type environment struct {
	env      *cel.Env                           // without the variable message
	schema   *schema                            // nil if there is no schema
	typed    map[protoreflect.FullName]*cel.Env // env with the variable message, by its type; see of
	patterns patterns
}

// newEnvironment returns an environment for the messages of files. files may be nil: then message has the type dyn.
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

// of returns the CEL environment in which message is of type md, or of type dyn if md is nil.
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
	line, column int // from 1; 0 if the problem is not at one place
	msg          string
}

func (p problem) Error() string {
	if p.line == 0 {
		return p.msg
	}
	return fmt.Sprintf("%d:%d: %s", p.line, p.column, p.msg)
}

// problemAt returns a problem at a place of an expression. It shortens cel-go's message.
func problemAt(at common.Location, msg string) problem {
	msg = strings.TrimSuffix(strings.Join(strings.Fields(msg), " "), " (in container '')")
	return problem{line: at.Line(), column: at.Column() + 1, msg: msg}
}

// wholeOf returns a problem of an expression as a whole, at the place of its operator.
func wholeOf(a *cel.Ast, msg string) problem {
	return problemAt(a.NativeRep().SourceInfo().GetStartLocation(a.NativeRep().Expr().ID()), msg)
}

// parse returns what is wrong with the syntax of an expression.
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

// check type-checks an expression on messages of type md. If md is nil, there is no schema: check does not report a name
// that may be that of a type or an enum value of the schema, but then the *cel.Ast is nil.
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

// possibleNames returns the ids of the expressions that may be names of a schema: the first name of a.b.C, and T in T{}.
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

// expression is a compiled expression. It is immutable, and safe for concurrent use.
type expression struct {
	key  string // its key in the document, for errors
	prog cel.Program
}

// plan makes the CEL program of an expression that was type-checked.
func (e *environment) plan(key string, a *cel.Ast, md protoreflect.MessageDescriptor) (*expression, error) {
	env, err := e.of(md)
	if err != nil {
		return nil, err
	}
	var opts []cel.ProgramOption
	if usesMatches(a.NativeRep()) { // with OptOptimize, cel-go would replace calls of matches by its own, which have no bound
		opts = append(opts, e.patterns.programOption())
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

// maxReason bounds the text of the cause in an EvalError, in bytes: the cause may quote the message.
const maxReason = 512

// fail returns the EvalError of the expression for a cause.
func (x *expression) fail(err error) *EvalError {
	if msg := err.Error(); len(msg) > maxReason {
		err = errors.New(strings.ToValidUTF8(msg[:maxReason], "") + "…")
	}
	return &EvalError{Key: x.key, Err: err}
}

// eval evaluates the expression. The value may refer to the message. The error is an *EvalError.
func (x *expression) eval(a *activation) (ref.Val, error) {
	a.meter.next()
	v, _, err := x.prog.Eval(a)
	if a.meter.over != nil { // even if Eval returned a value
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

// test evaluates a condition. The error is an *EvalError.
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
