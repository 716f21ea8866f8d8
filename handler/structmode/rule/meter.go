package rule

import (
	"context"
	"fmt"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
	"google.golang.org/protobuf/proto"
)

// meter stops the evaluation of an expression that the message makes too expensive. cel-go has a limit of its own, but
// what it keeps to count costs makes the time of a loop grow with the square of its turns. An error in their place would
// not stop it: loops go on after errors, and so does ||.
type meter struct {
	// Of all expressions that see the message.
	ctx     context.Context // see Call.Context
	work    int             // since the last look at the clock
	started time.Time       // of the first look

	// Of one expression.
	cost int
	over error // why the evaluation is to end
}

// next makes the meter ready for another expression.
func (m *meter) next() { m.cost, m.over = 0, nil }

// stop ends the evaluation. The panic is cel-go's own way to do that: its Eval recovers from it.
func (m *meter) stop(why error) {
	m.over = why
	panic(interpreter.EvalCancelledError{Message: why.Error(), Cause: interpreter.CostLimitExceeded})
}

// maxTime bounds how long the expressions that see a message may take together. What is done with a message may take long
// and cost little, such as a look-up by a key of megabytes in each turn of a loop.
const maxTime = time.Second

// The work between two looks at the clock. A call is work of 1; what takes about as long as sixteen calls is looked after.
const (
	workPerLook  = 16
	bytesPerWork = 4 << 10 // of a message, whenever an expression names it
	costPerWork  = 64      // of what is counted before it is done
)

// tick looks at the clock, sometimes.
func (m *meter) tick(work int) {
	if m.work += work; m.work < workPerLook {
		return
	}
	m.work = 0
	if m.ctx != nil {
		if err := m.ctx.Err(); err != nil {
			m.stop(err)
		}
	}
	if m.started.IsZero() {
		m.started = time.Now()
	} else if time.Since(m.started) > maxTime {
		m.stop(fmt.Errorf("takes longer than %v", maxTime))
	}
}

// spend adds the cost of what is about to be done.
func (m *meter) spend(cost int) {
	m.tick(1 + cost/costPerWork)
	if m.cost += cost; m.cost > MaxCost {
		m.stop(fmt.Errorf("costs more than %d", MaxCost))
	}
}

// count adds the cost of a call that gave v.
func (m *meter) count(v ref.Val) {
	n := 0
	switch x := v.(type) {
	case types.String:
		n = len(x)
	case types.Bytes:
		n = len(x)
	}
	m.spend(1 + n/textPerCost)
}

// meterName is how a call finds the meter of its evaluation. Expressions cannot have such a name.
const meterName = "\x00meter"

// meterOf returns the meter of an evaluation, nil while constants are folded.
func meterOf(frame *interpreter.ExecutionFrame) *meter {
	found, _ := frame.ResolveName(meterName)
	m, _ := found.(*meter)
	return m
}

// metered is a call that is counted.
type metered struct {
	interpreter.InterpretableCall
}

// Exec implements interpreter.InterpretableV2.
func (c *metered) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	return meteredExec(c.InterpretableCall, frame, (*meter).count)
}

// Eval implements interpreter.Interpretable.
func (c *metered) Eval(a interpreter.Activation) ref.Val { return c.Exec(interpreter.AsFrame(a)) }

// meteredSplit is a call of split, whose list is as long as its text. Lists that other calls give are longer than what
// they are made of by what was counted before.
type meteredSplit struct {
	interpreter.InterpretableCall
}

// Exec implements interpreter.InterpretableV2.
func (c *meteredSplit) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	return meteredExec(c.InterpretableCall, frame, func(m *meter, v ref.Val) {
		n := types.Int(0)
		if list, ok := v.(traits.Lister); ok {
			n, _ = list.Size().(types.Int)
		}
		m.spend(1 + int(n))
	})
}

// Eval implements interpreter.Interpretable.
func (c *meteredSplit) Eval(a interpreter.Activation) ref.Val { return c.Exec(interpreter.AsFrame(a)) }

// meteredObject makes a message, into which those that are its fields are copied.
type meteredObject struct {
	interpreter.InterpretableConstructor
}

// Exec implements interpreter.InterpretableV2.
func (c *meteredObject) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	return meteredExec(c.InterpretableConstructor, frame, func(m *meter, v ref.Val) {
		n := 0
		if o, ok := v.(*object); ok {
			n = proto.Size(o.message.Interface())
		}
		m.spend(1 + n/textPerCost)
	})
}

// Eval implements interpreter.Interpretable.
func (c *meteredObject) Eval(a interpreter.Activation) ref.Val { return c.Exec(interpreter.AsFrame(a)) }

// meteredExec evaluates i, and has count add what that cost.
func meteredExec(i interpreter.InterpretableV2, frame *interpreter.ExecutionFrame, count func(*meter, ref.Val)) ref.Val {
	v := i.Exec(frame)
	if m := meterOf(frame); m != nil {
		count(m, v)
	}
	return v
}

// countCalls has the calls of an expression counted, and the messages that it makes.
func countCalls() cel.ProgramOption {
	return cel.CustomDecoratorV2(func(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
		switch i := i.(type) {
		case interpreter.InterpretableCall:
			if i.Function() == "split" {
				return &meteredSplit{i}, nil
			}
			return &metered{i}, nil
		case interpreter.InterpretableConstructor:
			if i.Type() != types.ListType && i.Type() != types.MapType {
				return &meteredObject{i}, nil
			}
		}
		return i, nil
	})
}
