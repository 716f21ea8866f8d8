package rule

import (
	"fmt"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
)

// meter stops one evaluation of an expression that the message makes too expensive. cel-go has a limit of its own, but
// what it keeps to count costs makes the time of a loop grow with the square of its turns.
type meter struct {
	cost    int
	ticks   int
	started time.Time // of the first look at the clock
	over    error     // why the evaluation is to end
}

// maxTime bounds how long an expression that loops may take. What is done with a message in each turn of a loop may take
// long and cost little, such as a look-up by a key of megabytes.
const maxTime = time.Second

// checkEvery is how many ticks there are to a look at the clock; plain expressions have fewer.
const checkEvery = 16

// tick looks at the clock, sometimes.
func (m *meter) tick() {
	if m.ticks++; m.ticks%checkEvery != 0 || m.over != nil {
		return
	}
	if m.started.IsZero() {
		m.started = time.Now()
	} else if time.Since(m.started) > maxTime {
		m.over = fmt.Errorf("takes longer than %v", maxTime)
	}
}

// count adds the cost of a call that gave v.
func (m *meter) count(v ref.Val) {
	m.tick()
	n := 0
	switch x := v.(type) {
	case types.String:
		n = len(x)
	case types.Bytes:
		n = len(x)
	}
	if m.cost += 1 + n/textPerCost; m.cost > MaxCost && m.over == nil {
		m.over = fmt.Errorf("costs more than %d", MaxCost)
	}
}

// meterName is how a call finds the meter of its evaluation. Expressions cannot have such a name.
const meterName = "\x00meter"

// metered is a call that is counted.
type metered struct {
	interpreter.InterpretableCall
}

// Exec implements interpreter.InterpretableV2.
func (c *metered) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	found, _ := frame.ResolveName(meterName)
	m, ok := found.(*meter)
	if !ok {
		return c.InterpretableCall.Exec(frame) // while constants are folded
	}
	if m.over != nil {
		return types.WrapErr(m.over)
	}
	v := c.InterpretableCall.Exec(frame)
	if m.count(v); m.over != nil {
		return types.WrapErr(m.over)
	}
	return v
}

// Eval implements interpreter.Interpretable.
func (c *metered) Eval(a interpreter.Activation) ref.Val { return c.Exec(interpreter.AsFrame(a)) }

// countCalls has the calls of an expression counted.
func countCalls() cel.ProgramOption {
	return cel.CustomDecoratorV2(func(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
		if call, ok := i.(interpreter.InterpretableCall); ok {
			return &metered{call}, nil
		}
		return i, nil
	})
}
