package mirror

import (
	"encoding/json"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/resolver/spec"
)

// decode returns a message of an answer, decoded with the route's schema; nil if that is not possible.
func (c *comparison) decode(plain []byte) protoreflect.Message {
	compiled := c.call.Schema()
	rules := compiled.Direction(c.call.Method, spec.OnResponse)
	if rules == nil || plain == nil {
		return nil
	}
	m, err := structmode.Decode(plain, c.call.Subtype, compiled, rules)
	if err != nil {
		return nil
	}
	return m
}

// maxShown is how many bytes of a message are shown.
const maxShown = 4 << 10

// payload is what is shown of a message that is not decoded.
type payload struct {
	Length  int    `json:"length"`
	Payload []byte `json:"payload,omitempty"` // its beginning; left out if rules of the route may hide parts of it
}

// show returns what is shown of a message: in JSON, without what the route's redact rules hide.
func (c *comparison) show(m protoreflect.Message, plain []byte) json.RawMessage {
	if m != nil {
		compiled := c.call.Schema()
		compiled.Direction(c.call.Method, spec.OnResponse).Redact(m)
		text, err := structmode.JSON(m, compiled)
		if err == nil && len(text) <= maxShown {
			return text
		}
		return shown(payload{Length: len(plain)})
	}
	p := payload{Length: len(plain)}
	if !c.call.Redacts {
		p.Payload = plain[:min(len(plain), maxShown)]
	}
	return shown(p)
}

// clearField clears the field at the end of a path, in each element of lists and maps on the way.
func clearField(m protoreflect.Message, path []string) {
	fd := m.Descriptor().Fields().ByName(protoreflect.Name(path[0]))
	switch {
	case fd == nil || !m.Has(fd):
	case len(path) == 1:
		m.Clear(fd)
	case fd.IsMap():
		if fd.MapValue().Message() != nil {
			m.Get(fd).Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				clearField(v.Message(), path[1:])
				return true
			})
		}
	case fd.IsList():
		if fd.Message() != nil {
			list := m.Get(fd).List()
			for i := range list.Len() {
				clearField(list.Get(i).Message(), path[1:])
			}
		}
	case fd.Message() != nil:
		clearField(m.Mutable(fd).Message(), path[1:])
	}
}
