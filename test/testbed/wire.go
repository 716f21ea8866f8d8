package testbed

import "google.golang.org/protobuf/encoding/protowire"

// Text returns a message in the wire format of Protocol Buffers whose field 1 is s.
func Text(s string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), s)
}

// MakeField overwrites the beginning of b, which has at least two bytes, so that b is one field of type bytes.
func MakeField(b []byte) {
	b[0] = byte(protowire.EncodeTag(1, protowire.BytesType))
	n := len(b) - 2
	if n < 3 {
		b[1] = byte(n)
		return
	}
	n -= 3 // here the length takes four bytes; a varint may be longer than necessary
	for i := range 3 {
		b[1+i] = byte(n>>(7*i))&0x7F | 0x80
	}
	b[4] = byte(n >> 21 & 0x7F)
}
