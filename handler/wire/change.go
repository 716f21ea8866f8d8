package wire

import (
	"bytes"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

const (
	nowhere int32 = -1 // the place of a field that original does not have: the end
	skipped int32 = -2 // the place of no field
)

// change is a field that differs between before and after, or a member of a oneof of which another member differs.
type change struct {
	number        protowire.Number // or unknown
	field         *field           // nil for the unknown
	before, after []byte           // its records
	at            int32            // where in original its last record starts: its place; or nowhere
	parts         []part           // its messages in original: of singular, list and entries
	chunks        int              // its records in original, of packed
}

// part is a piece of a message by its offsets.
type part struct{ start, end int32 }

// compare appends the fields that differ between before and after, by rising number.
func (m *Message) compare(changes []change, before, after []byte) ([]change, error) {
	var roomB, roomA [24]span
	before, spansB, err := m.spans(roomB[:0], before)
	if err != nil {
		return nil, fmt.Errorf("before: %w", err)
	}
	after, spansA, err := m.spans(roomA[:0], after)
	if err != nil {
		return nil, fmt.Errorf("after: %w", err)
	}
	all := spansB
	for len(spansB) > 0 || len(spansA) > 0 {
		c := change{at: nowhere}
		switch {
		case len(spansA) == 0 || len(spansB) > 0 && spansB[0].number < spansA[0].number:
			c.number = spansB[0].number
		default:
			c.number = spansA[0].number
		}
		c.before, spansB = take(before, spansB, c.number)
		c.after, spansA = take(after, spansA, c.number)
		if !bytes.Equal(c.before, c.after) {
			c.field = m.field(c.number)
			changes = append(changes, c)
		}
	}
	return m.addSiblings(changes, all), nil
}

// take is the records of the first span, if it is of the number, and the rest of the spans.
func take(b []byte, spans []span, number protowire.Number) ([]byte, []span) {
	if len(spans) == 0 || spans[0].number != number {
		return nil, spans
	}
	return b[spans[0].start:spans[0].end], spans[1:]
}

// addSiblings adds the other members of the oneofs that differ: what original has of them was overridden there, and
// must not come to life when the member that overrode it goes or moves. same are the fields of before.
func (m *Message) addSiblings(changes []change, same []span) []change {
	differ := len(changes)
	for i := range differ {
		if changes[i].field == nil || changes[i].field.oneof == 0 {
			continue
		}
		for _, f := range m.fields {
			is := func(s span) bool { return s.number == f.number }
			has := func(c change) bool { return c.number == f.number }
			if f.oneof == changes[i].field.oneof && !slices.ContainsFunc(same, is) && !slices.ContainsFunc(changes, has) {
				changes = append(changes, change{number: f.number, field: f, at: nowhere})
			}
		}
	}
	if len(changes) > differ {
		slices.SortFunc(changes, func(x, y change) int { return int(x.number) - int(y.number) })
	}
	return changes
}

// changeOf is the change that a record of original belongs to, nil for none.
func (m *Message) changeOf(changes []change, n protowire.Number) *change {
	last := len(changes) - 1
	if last >= 0 && changes[last].number == unknown && m.field(n) == nil {
		return &changes[last]
	}
	if len(changes) <= 8 {
		for i := range changes {
			if changes[i].number == n {
				return &changes[i]
			}
		}
		return nil
	}
	i, ok := slices.BinarySearchFunc(changes, n, func(c change, n protowire.Number) int { return int(c.number) - int(n) })
	if !ok {
		return nil
	}
	return &changes[i]
}

// locate finds where original has the fields that differ.
func (m *Message) locate(changes []change, original []byte) error {
	for at := 0; at < len(original); {
		r, err := next(original[at:])
		if err != nil {
			return fmt.Errorf("original: %w", err)
		}
		if c := m.changeOf(changes, r.number); c != nil {
			if err := c.see(r, original, at); err != nil {
				return c.wrap(err)
			}
			if c.field != nil && c.field.oneof != 0 {
				c.override(changes)
			}
		}
		at += r.end
	}
	return nil
}

// see takes note of a record of the field, which starts at at.
func (c *change) see(r record, original []byte, at int) error {
	c.at = int32(at)
	if c.field == nil || c.field.kind == whole {
		return nil
	}
	if c.field.kind == packed {
		// A decoder of prutal starts the list anew at each packed piece, where protobuf goes on.
		if c.chunks++; c.chunks > 1 && r.typ == protowire.BytesType {
			return fmt.Errorf("%w: a packed list in several pieces", ErrAmbiguous)
		}
		return nil
	}
	if r.typ != protowire.BytesType {
		return fmt.Errorf("%w: wire type %d, want %d of a message", ErrAmbiguous, r.typ, protowire.BytesType)
	}
	value := r.payload(original[at:])
	end := int32(at + r.end)
	c.parts = append(c.parts, part{end - int32(len(value)), end})
	return nil
}

// override tells the other members of the oneof that c, which was just seen, is set: what they were is gone, and the
// one that is set after the change belongs here, behind members that the type does not know.
func (c *change) override(changes []change) {
	for i := range changes {
		if o := &changes[i]; o != c && o.field != nil && o.field.oneof == c.field.oneof {
			o.parts, o.at = nil, c.at
		}
	}
}

// place is at if the field belongs there, and skipped if a later record is its place.
func (c *change) place(at int) int32 {
	if c.at == int32(at) {
		return c.at
	}
	return skipped
}

// append appends the field as it is after the change.
func (c *change) append(out, original []byte, depth int) ([]byte, error) {
	if c.field == nil || len(c.after) == 0 || len(c.parts) == 0 {
		return append(out, c.after...), nil
	}
	switch c.field.kind {
	case singular:
		return c.appendSingular(out, original, depth)
	case list:
		return c.appendList(out, original, depth)
	case entries:
		return c.appendEntries(out, original, depth)
	default:
		return append(out, c.after...), nil
	}
}

func (c *change) appendSingular(out, original []byte, depth int) ([]byte, error) {
	before, err := elementsOf(c.before)
	if err != nil {
		return nil, err
	}
	after, err := elementsOf(c.after)
	if err != nil {
		return nil, err
	}
	came := elements{original, c.parts}
	return c.field.message.appendMessage(out, c.number, came.joined(), before.joined(), after.joined(), depth-1)
}

// wrap names the field in an error.
func (c *change) wrap(err error) error {
	if c.field == nil {
		return err
	}
	return fmt.Errorf("field %d (%s): %w", c.number, c.field.name, err)
}
