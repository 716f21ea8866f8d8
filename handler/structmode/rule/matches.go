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

// A pattern takes a time that grows with the length of the text times the size of the pattern, the instructions that it
// compiles to: each is tried at each character. So many of these steps cost 1.
const stepsPerCost = 50

const (
	maxPatternSize  = 2000    // of one pattern
	maxPatternsSize = 100_000 // of all different ones of a route, for their memory
	wideClass       = 4       // ranges of characters; a class of more counts twice, because they are searched
)

// pattern is the second argument of matches.
type pattern struct {
	re   *regexp.Regexp
	size int
}

// cost returns what it costs to look for the pattern in a text of that length.
func (p *pattern) cost(length int) int { return 1 + length*p.size/stepsPerCost }

// patterns are those of an environment, by text.
type patterns struct {
	known map[string]*pattern
	size  int
}

// of returns the pattern that e, an argument of matches, is.
func (p *patterns) of(e ast.Expr) (*pattern, error) {
	if e.Kind() == ast.LiteralKind {
		if text, ok := e.AsLiteral().(types.String); ok {
			return p.get(string(text))
		}
	}
	return nil, errors.New("matches of a pattern that is computed, want one in quotes")
}

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

// estimate returns what a call of matches may cost, or nil for other calls and for patterns that are wrong.
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

// program has calls of matches use the patterns, and count what they cost.
func (p *patterns) program() cel.ProgramOption {
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

// matcher is a call of matches.
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
