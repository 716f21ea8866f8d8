package mirror

import "github.com/framegate/framegate/resolver/spec"

// Selection says which messages of requests are delivered. It is immutable. A nil Selection delivers every message.
type Selection struct {
	only  bool
	types []messageType
}

type messageType struct {
	doc spec.MessageType
	key string                  // of spec.KeyedCondition
	raw func(plain []byte) bool // nil for a condition in CEL
}

// NewSelection returns the Selection of a valid document with that key; doc may be nil.
func NewSelection(doc *spec.Select, key string) *Selection {
	if doc == nil {
		return nil
	}
	s := &Selection{only: doc.Only(), types: make([]messageType, len(doc.Types))}
	for i, t := range doc.Types {
		s.types[i] = messageType{doc: t, key: doc.TypeKey(key, i)}
		if c, ok := t.Condition(); ok {
			s.types[i].raw = c.Met
		}
	}
	return s
}

// Delivers reports whether a message is delivered, and whether its receiver may answer it. A message that cannot be
// decompressed or decoded is of no type.
func (s *Selection) Delivers(v *View) (deliver, respond bool) {
	if s == nil {
		return true, false
	}
	listed := false
	for i := range s.types {
		t := &s.types[i]
		if listed && !t.doc.Respond {
			continue // only whether the receiver may answer is open
		}
		if t.is(v) {
			listed = true
			respond = respond || t.doc.Respond
		}
	}
	return listed == s.only, respond && s.only
}

func (t *messageType) is(v *View) bool {
	if t.raw == nil {
		return v.meets(t.key)
	}
	plain, ok := v.Plain()
	return ok && t.raw(plain)
}
