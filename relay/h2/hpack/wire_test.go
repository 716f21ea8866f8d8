package hpack

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2/hpack"
)

// RFC 7541 appendix C.1, and the ends of what an integer can be.
func TestInteger_BothWays(t *testing.T) {
	for _, c := range []struct {
		v      uint32
		bits   byte
		prefix uint8
		want   string
	}{
		{10, 0xe0, 5, "ea"},
		{1337, 0xe0, 5, "ff9a0a"},
		{42, 0, 8, "2a"},
		{0, 0x80, 7, "80"},
		{126, 0x80, 7, "fe"},
		{127, 0x80, 7, "ff00"},
		{254, 0x80, 7, "ff7f"},
		{255, 0x80, 7, "ff8001"},
		{math.MaxUint32, 0, 4, "0ff0ffffff0f"},
	} {
		want := bytesOf(t, c.want)
		require.Equal(t, want, appendInteger(nil, c.bits, c.prefix, c.v))
		v, rest, err := readInteger(append(want, 'x'), c.prefix)
		require.NoError(t, err)
		require.Equal(t, c.v, v)
		require.Equal(t, "x", string(rest))
		_, _, err = readInteger(want[:len(want)-1], c.prefix)
		require.Equal(t, errTruncated, err)
	}
}

// A long string that one peer sent once must not stay with all.
func TestDecoder_KeepsNoLargeBuffer(t *testing.T) {
	in := NewInterner(64, 64)
	d := NewDecoder(in, 4096)
	code := hpack.AppendHuffmanString(nil, strings.Repeat("a", 4*maxTextBytes))
	block := appendInteger([]byte{0, 1, 'a'}, huffman, 7, uint32(len(code)))
	fields, err := d.Decode(nil, append(block, code...), unlimited)
	require.NoError(t, err)
	require.Len(t, fields[0].Value, 4*maxTextBytes)
	in.Field("a", "b", false)
	require.Less(t, cap(in.text.b), 1024)
}

func TestCompressionError_SaysWhere(t *testing.T) {
	_, err := NewDecoder(NewInterner(0, 0), 4096).Decode(nil, []byte{0x80}, unlimited)
	require.EqualError(t, err, "hpack: index of no entry")
	var as CompressionError
	require.ErrorAs(t, err, &as)
}
