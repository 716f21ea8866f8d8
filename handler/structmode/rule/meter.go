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

// meter stops the evaluation of an expression that takes too long or costs too much on a message. It replaces cel-go's own
// cost limit, whose bookkeeping makes the time of a loop grow with the square of its turns.
type meter struct {
	// Of all expressions on the message:
	ctx     context.Context // see Call.Context
	work    int             // since the last check of the clock
	started time.Time       // when the clock was first checked

	// Of the current expression:
	cost int
	over error // why the evaluation was stopped; nil if it was not
}

// next prepares the meter for the next expression.
func (m *meter) next() { m.cost, m.over = 0, nil }

// stop ends the evaluation with a panic, as cel-go itself does: its Eval recovers from this panic. An error value would not
// end it, because loops and || go on after errors.
func (m *meter) stop(why error) {
	m.over = why
	panic(interpreter.EvalCancelledError{Message: why.Error(), Cause: interpreter.CostLimitExceeded})
}

// maxTime bounds how long all expressions on a message may take together. It is needed beside MaxCost, because an operation
// may take long and cost little, such as a look-up by a key of megabytes in each turn of a loop.
const maxTime = time.Second

// Work is a rough measure of the time between two checks of the clock: a call is 1.
const (
	workPerCheck = 16      // work between two checks
	bytesPerWork = 4 << 10 // bytes of a message that are 1, whenever an expression uses the variable message
	costPerWork  = 64      // cost that is 1
)

// tick adds work, and checks the clock and the context if there was workPerCheck since the last check.
func (m *meter) tick(work int) {
	if m.work += work; m.work < workPerCheck {
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

// spend adds to the cost of the expression, and stops it if the cost is over MaxCost.
func (m *meter) spend(cost int) {
	m.tick(1 + cost/costPerWork)
	if m.cost += cost; m.cost > MaxCost {
		m.stop(fmt.Errorf("costs more than %d", MaxCost))
	}
}

// count adds the cost of a call with the result v.
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

// meterName is the name of a variable by which a call finds the meter of its evaluation. No expression can contain it.
const meterName = "\x00meter"

// meterOf returns the meter of an evaluation. It is nil while cel-go folds constants.
func meterOf(frame *interpreter.ExecutionFrame) *meter {
	found, _ := frame.ResolveName(meterName)
	m, _ := found.(*meter)
	return m
}

// metered is a call whose cost is counted.
type metered struct {
	interpreter.InterpretableCall
}

// Exec implements interpreter.InterpretableV2.
func (c *metered) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	return meteredExec(c.InterpretableCall, frame, (*meter).count)
}

// Eval implements interpreter.Interpretable.
func (c *metered) Eval(a interpreter.Activation) ref.Val { return c.Exec(interpreter.AsFrame(a)) }

// meteredSplit is a call of split, which costs the length of its result: split makes many elements in one call. The lists of
// other calls have no more elements than were counted before.
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

// meteredObject is an expression that makes a message. It costs the size of the message, because the messages in its fields
// are copied.
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

// meteredExec evaluates i, and calls count with the result to add the cost.
func meteredExec(i interpreter.InterpretableV2, frame *interpreter.ExecutionFrame, count func(*meter, ref.Val)) ref.Val {
	v := i.Exec(frame)
	if m := meterOf(frame); m != nil {
		count(m, v)
	}
	return v
}

// countCalls returns the option that makes the meter count the calls of an expression, and the messages that it makes.
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
