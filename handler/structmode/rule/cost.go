package rule

import (
	"slices"

	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/overloads"
	"github.com/google/cel-go/common/types"
)

// MaxCost bounds the cost of one expression. A call or another step costs 1, ten bytes of text that are read cost 1, and so
// do fifty steps of a regular expression. When a rule is compiled, an expression whose estimated cost may be greater is
// refused: cel-go's estimate assumes that lists and maps have up to 1000 elements, and strings and bytes up to 256 bytes.
// When an expression is evaluated on a message with more, it is stopped when the cost of its calls and their results reaches
// MaxCost, or after maxTime; see meter.
const MaxCost = 1_000_000

const (
	sizeOfText = 256
	sizeOfList = 1000

	textPerCost = 10 // as common.StringTraversalCostFactor
)

// estimator is the checker.CostEstimator of expressions: it assumes the sizes that MaxCost says, and knows the cost of
// textFunctions and of matches.
type estimator struct{ patterns *patterns }

// EstimateSize implements checker.CostEstimator.
func (estimator) EstimateSize(n checker.AstNode) *checker.SizeEstimate {
	return estimateSize(n)
}

func estimateSize(n checker.AstNode) *checker.SizeEstimate {
	switch n.Type().Kind() {
	case types.StringKind, types.BytesKind:
		return &checker.SizeEstimate{Max: sizeOfText}
	case types.ListKind, types.MapKind, types.DynKind, types.AnyKind:
		return &checker.SizeEstimate{Max: sizeOfList}
	case types.OpaqueKind, types.TypeParamKind:
		return &checker.SizeEstimate{Max: sizeOfList}
	}
	return &checker.SizeEstimate{Min: 1, Max: 1}
}

// EstimateCallCost implements checker.CostEstimator.
func (e estimator) EstimateCallCost(
	function, _ string, target *checker.AstNode, args []checker.AstNode,
) *checker.CallEstimate {
	if target == nil || !slices.Contains(textFunctions, function) {
		return e.patterns.estimate(function, target, args)
	}
	size := sizeOf(*target)
	if function == "join" {
		size = size.Multiply(checker.FixedSizeEstimate(sizeOfText))
	}
	cost, result := size.MultiplyByCostFactor(common.StringTraversalCostFactor), size
	switch function {
	case "indexOf", "lastIndexOf":
		cost = cost.Multiply(sizeOf(args[0]).MultiplyByCostFactor(common.StringTraversalCostFactor))
	case "replace":
		result = size.Multiply(sizeOf(args[1]).Add(checker.FixedSizeEstimate(1)))
		cost = result.MultiplyByCostFactor(common.StringTraversalCostFactor)
	}
	result.Min = 0
	return &checker.CallEstimate{CostEstimate: cost.Add(checker.FixedCostEstimate(1)), ResultSize: &result}
}

// sizeOf returns the size of a value: the one that the checker has computed, or else the estimate.
func sizeOf(n checker.AstNode) checker.SizeEstimate {
	if size := n.ComputedSize(); size != nil {
		return *size
	}
	return *estimateSize(n)
}

// direct are the functions whose calls need not be counted outside of loops: a call reads each byte of its arguments at most
// a few times, and its result is no larger than they are.
var direct = map[string]bool{
	operators.LogicalAnd: true, operators.LogicalOr: true, operators.LogicalNot: true, operators.Conditional: true,
	operators.Equals: true, operators.NotEquals: true, operators.Less: true, operators.LessEquals: true,
	operators.Greater: true, operators.GreaterEquals: true, operators.In: true, operators.Index: true,
	operators.OptSelect: true, operators.OptIndex: true, operators.Subtract: true, operators.Multiply: true,
	operators.Divide: true, operators.Modulo: true, operators.Negate: true,
	overloads.Size: true, overloads.StartsWith: true, overloads.EndsWith: true, overloads.Contains: true,
	overloads.Matches:        true, // matcher counts it in any case
	overloads.TypeConvertInt: true, overloads.TypeConvertUint: true, overloads.TypeConvertDouble: true,
	overloads.TypeConvertTimestamp: true, overloads.TypeConvertDuration: true,
	overloads.TimeGetFullYear: true, overloads.TimeGetMonth: true, overloads.TimeGetDayOfYear: true,
	overloads.TimeGetDayOfMonth: true, overloads.TimeGetDate: true, overloads.TimeGetDayOfWeek: true,
	overloads.TimeGetHours: true, overloads.TimeGetMinutes: true, overloads.TimeGetSeconds: true,
	overloads.TimeGetMilliseconds: true,
}

// sums are the overloads of + whose result has a fixed size.
var sums = []string{
	overloads.AddInt64, overloads.AddUint64, overloads.AddDouble, overloads.AddDurationDuration,
	overloads.AddDurationTimestamp, overloads.AddTimestampDuration,
}

// isDirect reports whether the calls of an expression need not be counted, because it has no loops and only direct
// functions: the length of the expression and maxTime bound its cost.
func isDirect(a *ast.AST) bool {
	ok := true
	ast.PostOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.ComprehensionKind:
			ok = false
		case ast.CallKind:
			name := e.AsCall().FunctionName()
			if name == operators.Add {
				for _, id := range a.GetOverloadIDs(e.ID()) {
					ok = ok && slices.Contains(sums, id)
				}
				return
			}
			ok = ok && direct[name]
		}
	}))
	return ok
}

// fault is a mistake in an expression, at the node with that id.
type fault struct {
	id  int64
	msg string
}

// validate returns what CEL allows but a rule must not contain: a call of matches whose pattern is not a literal, and a loop
// that reads a google.protobuf.Any of message, which would be decoded again in each turn.
func (p *patterns) validate(a *ast.AST) []fault {
	var faults []fault
	ast.PostOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.CallKind:
			if call := e.AsCall(); call.FunctionName() == overloads.Matches && len(call.Args()) > 0 {
				if _, err := p.of(call.Args()[len(call.Args())-1]); err != nil {
					faults = append(faults, fault{e.ID(), err.Error()})
				}
			}
		case ast.ComprehensionKind:
			loop := e.AsComprehension()
			for _, part := range []ast.Expr{loop.LoopCondition(), loop.LoopStep()} {
				ast.PostOrderVisit(part, ast.NewExprVisitor(func(e ast.Expr) {
					if e.Kind() == ast.SelectKind && a.GetType(e.ID()).Kind() == types.AnyKind && rootOf(e) == "message" {
						faults = append(faults, fault{e.ID(), "a google.protobuf.Any of message in a loop, want it outside"})
					}
				}))
			}
		}
	}))
	return faults
}

// rootOf returns the variable at the beginning of a chain of selections such as a.b.c, or "" if e is no such chain.
func rootOf(e ast.Expr) string {
	for e.Kind() == ast.SelectKind {
		e = e.AsSelect().Operand()
	}
	if e.Kind() == ast.IdentKind {
		return e.AsIdent()
	}
	return ""
}
