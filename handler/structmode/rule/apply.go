package rule

import (
	"fmt"
	"sync"

	"github.com/google/cel-go/common/types"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Apply takes one message through the rules in order, and says in out what comes of it; what was in out is gone. m, made
// by New, is changed in place: what the rules do not name stays as it is, unknown fields too. The rules after one that rejects
// or drops are not tried.
//
// The error is an *EvalError: the message must not be forwarded then, and out says nothing.
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

// valuesPool has memory for the values of a set rule.
var valuesPool = sync.Pool{New: func() any { return new([maxFields]protoreflect.Value) }}

// set evaluates all expressions before it changes m.
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

// maxHeaderValue bounds what a message can make of a request header.
const maxHeaderValue = 4096

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

// Redact applies the redact rules to m, made by New, whatever their conditions say: for showing messages to people.
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
