package fieldpath

import (
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
)

// Value is the value of a field as it is encoded. The zero Value is that of a field that is missing.
type Value struct {
	Present bool
	Type    protowire.Type // VarintType, Fixed32Type, Fixed64Type or BytesType
	Number  uint64         // of the first three types
	Bytes   []byte         // of BytesType: a part of the message
}

// ErrMalformed means that bytes are no protobuf message.
var ErrMalformed = errors.New("not an encoded protobuf message")

// Last returns the value at the end of the path: of a field that occurs more than once the last one, wherever in the fields
// that lead to it, because that is what decoding leaves of it. It reads each byte of the message at most once for each field
// number of the path, and does not allocate. It fails with ErrMalformed if the message, or one that the path leads through,
// cannot be parsed. A field on the way whose type is not that of a message counts as missing, as does a group at the end.
func (p Path) Last(message []byte) (v Value, err error) {
	for len(message) > 0 {
		num, typ, n := protowire.ConsumeTag(message)
		if n < 0 {
			return Value{}, ErrMalformed
		}
		message = message[n:]
		one := Value{Present: true, Type: typ}
		switch typ {
		case protowire.VarintType:
			one.Number, n = protowire.ConsumeVarint(message)
		case protowire.Fixed32Type:
			var x uint32
			x, n = protowire.ConsumeFixed32(message)
			one.Number = uint64(x)
		case protowire.Fixed64Type:
			one.Number, n = protowire.ConsumeFixed64(message)
		case protowire.BytesType:
			one.Bytes, n = protowire.ConsumeBytes(message)
		case protowire.StartGroupType:
			one.Bytes, n = protowire.ConsumeGroup(num, message)
		default:
			return Value{}, ErrMalformed
		}
		if n < 0 {
			return Value{}, ErrMalformed
		}
		message = message[n:]
		isMessage := typ == protowire.BytesType || typ == protowire.StartGroupType
		switch {
		case num != p[0]:
		case len(p) > 1 && isMessage:
			within, err := p[1:].Last(one.Bytes)
			if err != nil {
				return Value{}, err
			}
			if within.Present {
				v = within
			}
		case len(p) == 1 && typ != protowire.StartGroupType:
			v = one
		}
	}
	return v, nil
}

// number returns the last number in the value, which may be a packed list of varints, and false if there is none. A missing
// field and an empty list give 0, which is what decoding makes of them.
func (v Value) number() (uint64, bool) {
	if !v.Present {
		return 0, true
	}
	if v.Type != protowire.BytesType {
		return v.Number, true
	}
	var last uint64
	for rest := v.Bytes; len(rest) > 0; {
		x, n := protowire.ConsumeVarint(rest)
		if n < 0 {
			return 0, false
		}
		last, rest = x, rest[n:]
	}
	return last, true
}
