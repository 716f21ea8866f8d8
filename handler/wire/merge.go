package wire

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Merge returns the encoding of a message that was changed, without losing what its Go type does not know.
//
// original is what came. before is the type's encoding of what it decoded from original, and after its encoding once
// the value was changed. None of the three is written to; the result may be original or after itself, so treat it as
// part of them. Errors are ErrMalformed, ErrTooDeep and ErrAmbiguous.
//
//   - A field whose encoding is the same in before and after, or in neither, comes from original: byte for byte, where
//     it was. So do fields that the type does not know. If before equals after, the result is original.
//   - A field that differs comes from after. It takes the place of its last record in original, and all its other
//     records go; a field that original does not have is added at the end. A field that is not in after any more is
//     left out.
//   - A message that differs is merged in the same way. If original holds it several times, these are joined first, as
//     protobuf decoders do.
//   - The elements of a repeated message are matched by position when their number is unchanged, but when after holds
//     the very elements of before in another order, each brings its unknown fields along. When elements were only
//     removed, or only added, those that stayed are found by their encoding. Where that leaves a choice between equal
//     elements, and after any other change of their number, elements come from after alone: without unknown fields.
//   - The entries of a map are matched by key. Their order does not matter.
//   - A member of a oneof that is set removes what original has of the other members, as far as the type knows them.
//
// The message that a changed field holds may be another than before: it still gets the unknown fields of the one whose
// place it took.
func (m *Message) Merge(original, before, after []byte) ([]byte, error) {
	if bytes.Equal(before, after) {
		return original, nil
	}
	if m.keepsUnknown {
		return after, nil
	}
	out := make([]byte, 0, len(original)+max(0, len(after)-len(before))+8)
	out, err := m.append(out, original, before, after, MaxDepth)
	if err != nil {
		return nil, fmt.Errorf("wire: merge %s: %w", m.name, err)
	}
	return out, nil
}

// append appends the merged message to out. depth is how many messages may still lie in each other.
func (m *Message) append(out, original, before, after []byte, depth int) ([]byte, error) {
	if bytes.Equal(before, after) {
		return append(out, original...), nil
	}
	if depth == 0 {
		return nil, ErrTooDeep
	}
	if err := checkSize(original); err != nil {
		return nil, err
	}
	var room [8]change
	changes, err := m.compare(room[:0], before, after)
	if err != nil {
		return nil, err
	}
	if err := m.locate(changes, original); err != nil {
		return nil, err
	}

	kept := 0 // where the bytes of original start that are still to be copied
	for at := 0; at < len(original); {
		r, err := next(original[at:])
		if err != nil {
			return nil, err
		}
		if c := m.changeOf(changes, r.number); c != nil {
			out = append(out, original[kept:at]...)
			kept = at + r.end
			if out, err = appendChanges(out, changes, c.place(at), original, depth); err != nil {
				return nil, err
			}
		}
		at += r.end
	}
	out = append(out, original[kept:]...)
	return appendChanges(out, changes, nowhere, original, depth)
}

// appendChanges appends the fields whose place is at.
func appendChanges(out []byte, changes []change, at int32, original []byte, depth int) ([]byte, error) {
	for i := range changes {
		c := &changes[i]
		if c.at != at || at == skipped {
			continue
		}
		var err error
		if out, err = c.append(out, original, depth); err != nil {
			return nil, c.wrap(err)
		}
	}
	return out, nil
}

// appendMessage appends a field that is a merged message: its tag, its length, and itself.
func (m *Message) appendMessage(
	out []byte, number protowire.Number, original, before, after []byte, depth int,
) ([]byte, error) {
	out = protowire.AppendTag(out, number, protowire.BytesType)
	// The length is not known yet. Room for one as long as that of original is mostly right; else the message is moved.
	room := protowire.SizeVarint(uint64(len(original)))
	start := len(out) + room
	for range room {
		out = append(out, 0)
	}
	out, err := m.append(out, original, before, after, depth)
	if err != nil {
		return nil, err
	}
	size := len(out) - start
	if need := protowire.SizeVarint(uint64(size)); need != room {
		for range need - room {
			out = append(out, 0)
		}
		copy(out[start-room+need:], out[start:start+size])
		out = out[:start-room+need+size]
	}
	protowire.AppendVarint(out[:start-room], uint64(size))
	return out, nil
}
