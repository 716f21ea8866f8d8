package rule

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/overloads"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
)

// stepsPerCost is how many steps of matching cost 1. A step is one instruction of a compiled pattern at one character of a
// text: in the worst case every instruction is tried at every character.
const stepsPerCost = 50

const (
	maxPatternSize  = 2000    // instructions of one pattern
	maxPatternsSize = 100_000 // instructions of all different patterns of a route, which bounds their memory
	wideClass       = 4       // an instruction for a class with more ranges of characters counts twice, because it searches the ranges
)

// pattern is a compiled regular expression, the second argument of matches.
type pattern struct {
	re   *regexp.Regexp
	size int // see patternSize
}

// cost returns the cost of matching a text of that length.
func (p *pattern) cost(length int) int { return 1 + length*p.size/stepsPerCost }

// patterns are the compiled patterns of an environment.
type patterns struct {
	known map[string]*pattern // by their text
	size  int                 // of all patterns
}

// of returns the pattern for e, the second argument of matches, which must be a literal.
func (p *patterns) of(e ast.Expr) (*pattern, error) {
	if e.Kind() == ast.LiteralKind {
		if text, ok := e.AsLiteral().(types.String); ok {
			return p.get(string(text))
		}
	}
	return nil, errors.New("matches of a pattern that is computed, want one in quotes")
}

// get returns the pattern with a text, which it compiles unless it is known.
func (p *patterns) get(text string) (*pattern, error) {
	if found := p.known[text]; found != nil {
		return found, nil
	}
	size, err := patternSize(text)
	if err != nil {
		return nil, err
	}
	if size > maxPatternSize {
		return nil, fmt.Errorf("matches of a pattern of %d instructions, want at most %d", size, maxPatternSize)
	}
	if p.size+size > maxPatternsSize {
		return nil, fmt.Errorf("matches of patterns of more than %d instructions together, want at most that", maxPatternsSize)
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	found := &pattern{re, size}
	p.known[text] = found
	p.size += size
	return found, nil
}

// patternSize returns the size of a pattern: the number of instructions that it compiles to.
func patternSize(text string) (int, error) {
	re, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return 0, err
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return 0, err
	}
	size := len(prog.Inst)
	for i := range prog.Inst {
		if inst := &prog.Inst[i]; inst.Op == syntax.InstRune && len(inst.Rune) > 2*wideClass {
			size++
		}
	}
	return size, nil
}

// estimate returns the estimated cost of a call of matches, or nil for a call of another function or with a pattern that is
// wrong.
func (p *patterns) estimate(function string, target *checker.AstNode, args []checker.AstNode) *checker.CallEstimate {
	if function != overloads.Matches || len(args) == 0 {
		return nil
	}
	text := args[0]
	if target != nil {
		text = *target
	}
	found, err := p.of(args[len(args)-1].Expr())
	if err != nil {
		return nil
	}
	return &checker.CallEstimate{
		CostEstimate: sizeOf(text).MultiplyByCostFactor(float64(found.size) / stepsPerCost).Add(checker.FixedCostEstimate(1)),
	}
}

// programOption returns the option with which a CEL program evaluates calls of matches by a matcher.
func (p *patterns) programOption() cel.ProgramOption {
	return cel.OptimizeRegex(&interpreter.RegexOptimization{
		Function: overloads.Matches, RegexIndex: 1,
		Factory: func(call interpreter.InterpretableCall, text string) (interpreter.InterpretableCall, error) {
			found, err := p.get(text)
			if err != nil {
				return nil, err
			}
			return &matcher{call, found}, nil
		},
	})
}

// matcher is a call of matches with a compiled pattern. The meter counts its cost before the text is matched.
type matcher struct {
	interpreter.InterpretableCall
	pattern *pattern
}

// Exec implements interpreter.InterpretableV2.
func (c *matcher) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	v := c.Args()[0].Exec(frame)
	if types.IsUnknownOrError(v) {
		return v
	}
	s, ok := v.(types.String)
	switch {
	case !ok:
		return types.MaybeNoSuchOverloadErr(v)
	case len(s) > maxTextBytes:
		return types.NewErr("matches of a string of %d bytes, want at most %d", len(s), maxTextBytes)
	}
	if m := meterOf(frame); m != nil {
		m.spend(c.pattern.cost(len(s)))
	}
	return types.Bool(c.pattern.re.MatchString(string(s)))
}

// Eval implements interpreter.Interpretable.
func (c *matcher) Eval(a interpreter.Activation) ref.Val { return c.Exec(interpreter.AsFrame(a)) }
