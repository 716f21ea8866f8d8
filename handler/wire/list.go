package wire

import (
	"bytes"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// elements are messages that lie in one buffer.
type elements struct {
	b     []byte
	parts []part
}

// elementsOf are the messages of records that are all of one field.
func elementsOf(records []byte) (elements, error) {
	e := elements{b: records}
	for at := 0; at < len(records); {
		r, err := next(records[at:])
		if err != nil {
			return elements{}, err
		}
		if r.typ != protowire.BytesType {
			return elements{}, fmt.Errorf("%w: wire type %d, want %d of a message", ErrAmbiguous, r.typ, protowire.BytesType)
		}
		at += r.end
		value := r.payload(records[at-r.end:])
		e.parts = append(e.parts, part{int32(at - len(value)), int32(at)})
	}
	return e, nil
}

func (e elements) len() int { return len(e.parts) }

func (e elements) at(i int) []byte { return e.b[e.parts[i].start:e.parts[i].end] }

// joined is the one message that all of e are to a protobuf decoder.
func (e elements) joined() []byte {
	if len(e.parts) == 1 {
		return e.at(0)
	}
	var b []byte
	for i := range e.parts {
		b = append(b, e.at(i)...)
	}
	return b
}

// appendList appends a repeated message, each element from where match finds it.
func (c *change) appendList(out, original []byte, depth int) ([]byte, error) {
	m, came := c.field.message, elements{original, c.parts}
	before, err := elementsOf(c.before)
	if err != nil {
		return nil, err
	}
	after, err := elementsOf(c.after)
	if err != nil {
		return nil, err
	}
	if came.len() != before.len() {
		return nil, fmt.Errorf("%w: %d elements, of which %d were decoded", ErrAmbiguous, came.len(), before.len())
	}
	sources, err := m.match(before, after, depth)
	if err != nil {
		return nil, err
	}
	for i, from := range sources {
		if from < 0 {
			out = protowire.AppendTag(out, c.number, protowire.BytesType)
			out = protowire.AppendBytes(out, after.at(i))
			continue
		}
		out, err = m.appendMessage(out, c.number, came.at(int(from)), before.at(int(from)), after.at(i), depth-1)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
	}
	return out, nil
}

// match says for each element of after which of before it was, -1 for none, as Message.Merge says.
func (m *Message) match(before, after elements, depth int) ([]int32, error) {
	var err error
	if m.hasMap { // the order of a map's entries makes equal elements differ
		if before, err = m.canonicalElements(before, depth); err != nil {
			return nil, err
		}
		if after, err = m.canonicalElements(after, depth); err != nil {
			return nil, err
		}
	}
	sources := make([]int32, after.len())
	switch {
	case before.len() == after.len():
		for i := range sources {
			sources[i] = int32(i)
		}
		reorder(sources, before, after)
	case before.len() > after.len():
		for i, j := range subsequence(after, before) {
			sources[i] = j
		}
	default:
		for i := range sources {
			sources[i] = -1
		}
		for j, i := range subsequence(before, after) {
			if i >= 0 {
				sources[i] = int32(j)
			}
		}
	}
	return sources, nil
}

// reorder corrects sources, which say by position, if after holds the elements of before in another order. Elements
// that equal others and are not where they were get -1.
func reorder(sources []int32, before, after elements) {
	fixed := func(i int32) bool { return bytes.Equal(before.at(int(i)), after.at(int(i))) }
	var moved []int32
	for i := range int32(len(sources)) {
		if !fixed(i) {
			moved = append(moved, i)
		}
	}
	sorted := func(e elements) []int32 {
		order := slices.Clone(moved)
		slices.SortStableFunc(order, func(x, y int32) int { return bytes.Compare(e.at(int(x)), e.at(int(y))) })
		return order
	}
	was, is := sorted(before), sorted(after)
	for k := range was {
		if !bytes.Equal(before.at(int(was[k])), after.at(int(is[k]))) {
			return // not the same elements: by position
		}
	}
	for k := range was {
		sources[is[k]] = was[k]
	}
	for k := 1; k < len(was); k++ {
		if bytes.Equal(before.at(int(was[k-1])), before.at(int(was[k]))) {
			sources[is[k-1]], sources[is[k]] = -1, -1
		}
	}
}

// subsequence finds the elements of short in long, in their order: for each its place, or -1 where there is a choice.
// It is -1 for all if long holds others only.
func subsequence(short, long elements) []int32 {
	places := make([]int32, short.len())
	found := 0
	for j := 0; j < long.len() && found < len(places); j++ {
		if bytes.Equal(short.at(found), long.at(j)) {
			places[found] = int32(j)
			found++
		}
	}
	if found < len(places) {
		for i := range places {
			places[i] = -1
		}
		return places
	}
	// places are the first possible ones. Where the last possible ones differ, there is a choice.
	for i, j := len(places)-1, long.len()-1; i >= 0; j-- {
		if bytes.Equal(short.at(i), long.at(j)) {
			if places[i] != int32(j) {
				places[i] = -1
			}
			i--
		}
	}
	return places
}
