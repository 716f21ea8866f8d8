package rule

import (
	"fmt"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/functions"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/ext"
)

// Bounds of one call of textFunctions. The meter counts a call only after it, so the arguments and the result of a single
// call must be bounded too.
const (
	maxTextBytes   = 64 << 10 // of an argument
	maxResultBytes = 1 << 20
	maxSearch      = 1 << 22 // length of the text times length of the text that is searched for
)

// textFunctions are the functions on strings that expressions have besides CEL's own: those of cel-go's ext.Strings, except
// format and quote.
var textFunctions = []string{
	"charAt", "indexOf", "join", "lastIndexOf", "lowerAscii", "replace", "reverse", "split", "substring", "trim",
	"upperAscii",
}

const textFunctionsVersion = 3

// textEnv returns the options that declare textFunctions, with their bounds.
func textEnv() ([]cel.EnvOption, error) {
	env, err := cel.NewCustomEnv(ext.Strings(ext.StringsVersion(textFunctionsVersion)))
	if err != nil {
		return nil, err
	}
	var opts []cel.EnvOption
	for _, name := range textFunctions {
		decl, ok := env.Functions()[name]
		if !ok {
			return nil, fmt.Errorf("cel has no function %s", name)
		}
		bindings, err := decl.Bindings()
		if err != nil {
			return nil, err
		}
		byID := map[string]*functions.Overload{}
		for _, b := range bindings {
			byID[b.Operator] = b
		}
		var overloads []cel.FunctionOpt
		for _, o := range decl.OverloadDecls() {
			call := callOf(byID[o.ID()])
			if call == nil {
				return nil, fmt.Errorf("cel has no function %s", o.ID())
			}
			overloads = append(overloads, cel.MemberOverload(o.ID(), o.ArgTypes(), o.ResultType(),
				binding(len(o.ArgTypes()), func(args ...ref.Val) ref.Val {
					if err := bounded(name, args); err != nil {
						return types.WrapErr(err)
					}
					return call(args...)
				})))
		}
		opts = append(opts, cel.Function(name, overloads...))
	}
	return opts, nil
}

// callOf returns the implementation of o as a function of any number of arguments; nil if there is none.
func callOf(o *functions.Overload) func(...ref.Val) ref.Val {
	switch {
	case o == nil:
		return nil
	case o.Unary != nil:
		return func(args ...ref.Val) ref.Val { return o.Unary(args[0]) }
	case o.Binary != nil:
		return func(args ...ref.Val) ref.Val { return o.Binary(args[0], args[1]) }
	case o.Function != nil:
		return o.Function
	}
	return nil
}

// binding returns the binding of an implementation with that number of arguments.
func binding(args int, call func(...ref.Val) ref.Val) cel.OverloadOpt {
	switch args {
	case 1:
		return cel.UnaryBinding(func(arg ref.Val) ref.Val { return call(arg) })
	case 2:
		return cel.BinaryBinding(func(a, b ref.Val) ref.Val { return call(a, b) })
	}
	return cel.FunctionBinding(call)
}

// bounded returns an error if a call would take too long, or its result would be too long.
func bounded(name string, args []ref.Val) error {
	for _, arg := range args {
		if s, ok := arg.(types.String); ok && len(s) > maxTextBytes {
			return fmt.Errorf("%s of a string of %d bytes, want at most %d", name, len(s), maxTextBytes)
		}
	}
	switch name {
	case "indexOf", "lastIndexOf":
		if n := textLen(args, 0) * textLen(args, 1); n > maxSearch {
			return fmt.Errorf("%s of %d bytes in %d, want at most %d as their product", name, textLen(args, 1),
				textLen(args, 0), maxSearch)
		}
	case "replace":
		text, ok := args[0].(types.String)
		old, ok2 := args[1].(types.String)
		if !ok || !ok2 {
			return nil
		}
		n := len(text) + strings.Count(string(text), string(old))*textLen(args, 2)
		if n > maxResultBytes {
			return fmt.Errorf("replace makes a string of up to %d bytes, want at most %d", n, maxResultBytes)
		}
	case "join":
		return boundedJoin(args)
	}
	return nil
}

func boundedJoin(args []ref.Val) error {
	list, ok := args[0].(traits.Lister)
	if !ok {
		return nil
	}
	separator := textLen(args, 1)
	total := 0
	for it := list.Iterator(); it.HasNext() == types.True; {
		s, _ := it.Next().(types.String)
		if total += len(s) + separator + 1; total > maxResultBytes {
			return fmt.Errorf("join makes a string of more than %d bytes, want at most that", maxResultBytes)
		}
	}
	return nil
}

// textLen returns the length of an argument; 0 if there is none, or it is no string.
func textLen(args []ref.Val, i int) int {
	if i >= len(args) {
		return 0
	}
	s, _ := args[i].(types.String)
	return len(s)
}
