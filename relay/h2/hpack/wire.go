package hpack

import (
	"golang.org/x/net/http2/hpack"
)

// CompressionError says that a header block is not HPACK. What comes after it on the connection cannot be read either: the
// connection ends with COMPRESSION_ERROR (RFC 9113 section 4.3).
type CompressionError string

func (e CompressionError) Error() string { return "hpack: " + string(e) }

const (
	errTruncated      = CompressionError("block ends within a field")
	errInteger        = CompressionError("integer of more than 32 bits or 6 bytes")
	errIndex          = CompressionError("index of no entry")
	errHuffman        = CompressionError("string is no Huffman code")
	errUpdatePlace    = CompressionError("table size update after a field")
	errUpdateCount    = CompressionError("more than two table size updates in a block")
	errUpdateTooLarge = CompressionError("table size update beyond the announced size")
	errUpdateMissing  = CompressionError("no table size update after the announced size was lowered")
)

// form is how a field representation begins: fixed bits, then an integer in the rest of the byte (RFC 7541 section 6).
type form struct {
	bits   byte
	prefix uint8 // bits of the first byte that the integer has
}

var (
	indexed         = form{0x80, 7}
	literalIndexing = form{0x40, 6}
	sizeUpdate      = form{0x20, 5}
	literalNever    = form{0x10, 4}
	literalPlain    = form{0x00, 4}
)

const (
	maxIntegerBytes = 6    // of one that fits 32 bits
	huffman         = 0x80 // in the first byte of a string
)

// appendInteger writes v behind the fixed bits of the first byte (RFC 7541 section 5.1).
func appendInteger(dst []byte, bits byte, prefix uint8, v uint32) []byte {
	full := uint32(1)<<prefix - 1
	if v < full {
		return append(dst, bits|byte(v))
	}
	dst = append(dst, bits|byte(full))
	for v -= full; v >= 0x80; v >>= 7 {
		dst = append(dst, byte(v)|0x80)
	}
	return append(dst, byte(v))
}

// readInteger returns the integer that b begins with, and what follows it.
func readInteger(b []byte, prefix uint8) (uint32, []byte, error) {
	if len(b) == 0 {
		return 0, nil, errTruncated
	}
	full := byte(1)<<prefix - 1
	if v := b[0] & full; v < full {
		return uint32(v), b[1:], nil
	}
	v := uint64(full)
	for i := 1; i < maxIntegerBytes; i++ {
		if i == len(b) {
			return 0, nil, errTruncated
		}
		v += uint64(b[i]&0x7f) << (7 * (i - 1))
		if b[i]&0x80 == 0 {
			if v > 1<<32-1 {
				return 0, nil, errInteger
			}
			return uint32(v), b[i+1:], nil
		}
	}
	return 0, nil, errInteger
}

// readString returns the string that b begins with, and what follows it (RFC 7541 section 5.2). The string lies in b, or in the
// text where a Huffman code was written out.
func readString(b []byte, out *text) (s, rest []byte, err error) {
	n, rest, err := readInteger(b, 7)
	if err != nil {
		return nil, nil, err
	}
	if uint64(n) > uint64(len(rest)) {
		return nil, nil, errTruncated
	}
	s, rest = rest[:n], rest[n:]
	if b[0]&huffman == 0 {
		return s, rest, nil
	}
	at := len(out.b)
	// It refuses EOS, and padding that is longer than 7 bits or not all ones.
	if _, err := hpack.HuffmanDecode(out, s); err != nil {
		return nil, nil, errHuffman
	}
	return out.b[at:], rest, nil
}

// text collects the names and values of one field. What was taken out of it stays as it is while it grows.
type text struct{ b []byte }

// maxTextBytes bounds what a text keeps from one field to the next.
const maxTextBytes = 64 << 10

func (t *text) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	return len(p), nil
}

func (t *text) reset() {
	if cap(t.b) > maxTextBytes {
		t.b = nil
	}
	t.b = t.b[:0]
}
