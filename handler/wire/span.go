package wire

import (
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// unknown stands for the number of all fields that a type does not know; it comes after all others.
const unknown = protowire.MaxValidNumber + 1

// record is one field on the wire: a tag and a value.
type record struct {
	number protowire.Number
	typ    protowire.Type
	value  int // where the value starts, counted from the start of the record
	end    int // where the record ends, likewise
}

// next is the record that b starts with.
func next(b []byte) (record, error) {
	number, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return record{}, malformed(protowire.ParseError(n))
	}
	size := protowire.ConsumeFieldValue(number, typ, b[n:])
	if size < 0 {
		return record{}, malformed(protowire.ParseError(size))
	}
	return record{number: number, typ: typ, value: n, end: n + size}, nil
}

// payload is the value of r, a record of the bytes type that b starts with.
func (r record) payload(b []byte) []byte {
	v, _ := protowire.ConsumeBytes(b[r.value:r.end])
	return v
}

func malformed(cause error) error { return fmt.Errorf("%w: %w", ErrMalformed, cause) }

// checkSize keeps offsets within 32 bits.
func checkSize(b []byte) error {
	if len(b) > math.MaxInt32 {
		return fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	return nil
}

// span is where the records of one field lie, one after the other.
type span struct {
	number     protowire.Number // or unknown
	start, end int32
}

// spans lists the fields of b by rising number, one span for each, appending to into. A type's own encoder writes them
// so; if b has them in another order, the spans are of a sorted copy, which is what is returned. Otherwise that is b.
func (m *Message) spans(into []span, b []byte) ([]byte, []span, error) {
	if err := checkSize(b); err != nil {
		return nil, nil, err
	}
	sorted := true
	for at := 0; at < len(b); {
		r, err := next(b[at:])
		if err != nil {
			return nil, nil, err
		}
		number, end := r.number, int32(at+r.end)
		if m.field(number) == nil {
			number = unknown
		}
		if n := len(into); n > 0 && into[n-1].number == number {
			into[n-1].end = end
		} else {
			sorted = sorted && (n == 0 || into[n-1].number < number)
			into = append(into, span{number, int32(at), end})
		}
		at = int(end)
	}
	if !sorted {
		b, into = regroup(b, into)
	}
	return b, into, nil
}

// regroup copies b with its spans sorted and those of one field joined. Within a field, order stays.
func regroup(b []byte, spans []span) ([]byte, []span) {
	slices.SortStableFunc(spans, func(x, y span) int { return int(x.number) - int(y.number) })
	out, joined := make([]byte, 0, len(b)), spans[:0]
	for _, s := range spans {
		start := int32(len(out))
		out = append(out, b[s.start:s.end]...)
		if n := len(joined); n > 0 && joined[n-1].number == s.number {
			joined[n-1].end = int32(len(out))
		} else {
			joined = append(joined, span{s.number, start, int32(len(out))})
		}
	}
	return out, joined
}
