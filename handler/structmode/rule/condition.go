package rule

import (
	"errors"

	"github.com/google/cel-go/cel"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/framegate/framegate/resolver/strict"
)

// Condition is a condition on the messages of one method and direction, like that of a rule. It is immutable, and safe
// for concurrent use.
type Condition struct {
	schema *schema
	expr   *expression
}

// CompileCondition compiles expr, a bool expression with the variables of rules, for messages of type md, which must be a
// type of files.
func CompileCondition(expr string, md protoreflect.MessageDescriptor, files *protoregistry.Files) (*Condition, error) {
	env, err := newEnvironment(files)
	if err != nil {
		return nil, err
	}
	problems := env.parse(expr)
	if len(problems) > 0 {
		return nil, joinProblems(problems)
	}
	a, problems := env.check(expr, md)
	if len(problems) > 0 {
		return nil, joinProblems(problems)
	}
	if err := resultIs(a.OutputType(), cel.BoolType); err != nil {
		return nil, err
	}
	x, err := env.plan("condition", a, md)
	if err != nil {
		return nil, err
	}
	return &Condition{schema: env.schema, expr: x}, nil
}

// CheckCondition returns what is wrong with a condition whatever the type of messages is.
func CheckCondition(expr string) error {
	env, err := newEnvironment(nil)
	if err != nil {
		return err
	}
	problems := env.parse(expr)
	if len(problems) == 0 {
		_, problems = env.check(expr, nil)
	}
	if len(problems) > 0 {
		return joinProblems(problems)
	}
	return nil
}

func joinProblems(problems []problem) error {
	var errs []error
	for _, p := range problems {
		errs = append(errs, errors.New(p.Error()))
	}
	return strict.Join(errs)
}

// Eval reports whether m, of the type that the condition was compiled for, meets it. The error is an *EvalError.
func (c *Condition) Eval(call *Call, m protoreflect.Message, frame Frame) (bool, error) {
	a := activate(call, m.Interface(), frame, c.schema)
	defer a.release()
	return c.expr.test(a)
}
