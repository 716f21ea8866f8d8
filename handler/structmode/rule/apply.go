package rule

import (
	"fmt"
	"sync"

	"github.com/google/cel-go/common/types"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Apply applies the rules to a message, in their order, and sets out to the result. m, which New or Decode made, is changed
// in place: fields that the rules do not name, and unknown fields, stay as they are. Rules after one that rejects or drops
// the message are not evaluated.
//
// The error is an *EvalError. The message must not be forwarded then, and out has no meaning.
func (r *Rules) Apply(c *Call, m protoreflect.Message, frame Frame, out *Result) error {
	out.reset()
	if len(r.rules) == 0 {
		return nil
	}
	a := activate(c, m.Interface(), frame, r.schema)
	defer a.release()
	for _, one := range r.rules {
		if one.when != nil {
			if ok, err := one.when.test(a); err != nil {
				return err
			} else if !ok {
				continue
			}
		}
		if err := r.fire(one, a, m, out); err != nil {
			return err
		}
		out.Hits[one.action]++
		if out.Verdict != Pass {
			break
		}
	}
	return nil
}

// fire performs the action of a rule whose condition is met.
func (r *Rules) fire(one *compiled, a *activation, m protoreflect.Message, out *Result) error {
	switch one.action {
	case ActionReject:
		out.Verdict, out.Code, out.Message = Reject, one.code, one.message
	case ActionDrop:
		out.Verdict, out.Code, out.Message = Drop, one.code, one.message
	case ActionSet:
		return r.set(one, a, m, out)
	case ActionClear:
		for _, p := range one.fields {
			out.Changed = p.clear(m) || out.Changed
		}
	case ActionRedact:
		for _, p := range one.fields {
			out.Changed = p.redact(m) || out.Changed
		}
	case ActionRoute:
		out.Backend = one.backend
	case ActionHeader:
		for _, h := range one.headers {
			v, err := h.value(a)
			if err != nil {
				return err
			}
			out.Headers = append(out.Headers, Header{Name: h.name, Value: v})
		}
	}
	return nil
}

// valuesPool has arrays for the values of a set rule.
var valuesPool = sync.Pool{New: func() any { return new([maxFields]protoreflect.Value) }}

// set performs a set rule: it evaluates all expressions before it changes m.
func (r *Rules) set(one *compiled, a *activation, m protoreflect.Message, out *Result) error {
	values := valuesPool.Get().(*[maxFields]protoreflect.Value)
	defer func() {
		clear(values[:len(one.values)])
		valuesPool.Put(values)
	}()
	for i, v := range one.values {
		val, err := v.expr.eval(a)
		if err != nil {
			return err
		}
		if values[i], err = r.schema.stepValue(&v.path[len(v.path)-1], val); err != nil {
			return v.expr.fail(err)
		}
	}
	for i, v := range one.values {
		out.Changed = v.path.set(m, values[i]) || out.Changed
	}
	return nil
}

// maxHeaderValue bounds the value of a header that a rule sets, in bytes.
const maxHeaderValue = 4096

// value evaluates the value of a header, which must be printable ASCII.
func (h *header) value(a *activation) (string, error) {
	v, err := h.expr.eval(a)
	if err != nil {
		return "", err
	}
	s, ok := v.(types.String)
	if !ok {
		return "", h.expr.fail(mismatch(v, "string"))
	}
	if len(s) > maxHeaderValue {
		return "", h.expr.fail(fmt.Errorf("a value of %d bytes, want at most %d", len(s), maxHeaderValue))
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return "", h.expr.fail(fmt.Errorf("a value with the byte %#02x, want printable ASCII", s[i]))
		}
	}
	return string(s), nil
}

// Redact applies the redact rules to m, which New or Decode made, whether their conditions are met or not. It is for
// messages that are shown to people.
func (r *Rules) Redact(m protoreflect.Message) {
	for _, one := range r.rules {
		if one.action != ActionRedact {
			continue
		}
		for _, p := range one.fields {
			p.redact(m)
		}
	}
}
