package fieldpath

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Condition is met by messages that have a certain value at a path.
type Condition struct {
	path Path
	want any // int64, uint64 over math.MaxInt64, string or bool
}

// Equals returns the condition that the last value at the path is want, which is an int, an int64, a uint64, a string or a
// bool; it panics for other types. A field that is missing has the default of the type: 0, "" or false.
//
//	whole number  a varint (int32, int64, uint32, uint64, enum), read as signed or unsigned; a fixed32, sfixed32, fixed64 or
//	              sfixed64; the last one of a packed list of varints. A sint32 or sint64 is compared as it is encoded (zigzag).
//	text          a string or bytes of those bytes
//	true, false   a varint other than 0, or 0; the last one of a packed list
func Equals(p Path, want any) Condition {
	switch w := want.(type) {
	case int:
		want = int64(w)
	case uint64:
		if w <= math.MaxInt64 {
			want = int64(w)
		}
	case int64, string, bool:
	default:
		panic("fieldpath: a value of another type than the documented ones")
	}
	return Condition{p, want}
}

// Met reports whether a message meets the condition. One that cannot be parsed does not. It does not allocate.
func (c Condition) Met(message []byte) bool {
	v, err := c.path.Last(message)
	return err == nil && c.equals(v)
}

func (c Condition) equals(v Value) bool {
	switch want := c.want.(type) {
	case string:
		return !v.Present && want == "" || v.Present && v.Type == protowire.BytesType && string(v.Bytes) == want
	case bool:
		n, ok := v.number()
		return ok && !v.fixed() && (n != 0) == want
	case uint64:
		n, ok := v.number()
		return ok && v.Type != protowire.Fixed32Type && n == want
	case int64:
		n, ok := v.number()
		if v.Present && v.Type == protowire.Fixed32Type {
			return int64(n) == want || int64(int32(n)) == want
		}
		return ok && int64(n) == want
	}
	return false
}

func (v Value) fixed() bool {
	return v.Present && (v.Type == protowire.Fixed32Type || v.Type == protowire.Fixed64Type)
}

// Apart reports whether certainly no message meets both conditions.
func (c Condition) Apart(other Condition) bool {
	if c.path.String() != other.path.String() {
		return false
	}
	if a, ok := c.want.(string); ok {
		b, ok := other.want.(string)
		return ok && a != b
	}
	if _, ok := other.want.(string); ok {
		return false // a missing field has the defaults of all types
	}
	return !c.meetsOn(other) && !other.meetsOn(c)
}

// meetsOn reports whether a number that other wants may meet c as well.
func (c Condition) meetsOn(other Condition) bool {
	var n uint64
	switch want := other.want.(type) {
	case bool:
		truth, ok := c.want.(bool)
		return ok && truth == want
	case uint64:
		n = want
	case int64:
		n = uint64(want)
		if want >= math.MinInt32 && want <= math.MaxUint32 && c.equals(Value{Present: true, Type: protowire.Fixed32Type, Number: uint64(uint32(want))}) {
			return true
		}
	}
	return c.equals(Value{Present: true, Type: protowire.VarintType, Number: n})
}
