package hpack

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2/hpack"
)

// script reads what a fuzz input says to do. Beyond its end it reads zeros.
type script struct{ rest []byte }

func (s *script) byte() byte {
	if len(s.rest) == 0 {
		return 0
	}
	b := s.rest[0]
	s.rest = s.rest[1:]
	return b
}

func (s *script) bytes(n int) []byte {
	b := s.rest[:min(n, len(s.rest))]
	s.rest = s.rest[len(b):]
	return b
}

// size is a table size up to twice the default; small ones come often.
func (s *script) size() uint32 {
	n := uint32(s.byte())
	if n >= 128 {
		return (n - 128) * 65
	}
	return n * 3
}

// FuzzDecode gives the blocks of a connection to our Decoder and to that of golang.org/x/net: both read the same fields, or both
// refuse. An input is blocks with their length in the byte before; the length 255 acknowledges another table size, in the next byte.
//
// Where they differ on purpose (see differ), and why:
//   - Theirs takes integers of up to ten bytes. RFC 7541 section 5.1 has a limit of length refused as an error; ours is six, which
//     is what the largest size and length take.
//   - Theirs takes any number of table size updates, wherever they stand, while its table is empty. RFC 7541 section 4.2 has them at
//     the beginning of a block, and two suffice.
//   - Theirs takes no second update unless the first has emptied its table. RFC 7541 section 4.2 has an encoder send two if the size
//     went down and up.
//   - Theirs does not miss the update that must follow a lowered size, nor mind that its first is not as low as the size was.
//   - Theirs starts with a table of any size: here both start with 4096 bytes.
//
// A second Decoder of ours has a bound on the header list: it reads the beginning of the same fields and stays in step.
func FuzzDecode(f *testing.F) {
	for _, v := range vectors {
		var input []byte
		for _, s := range v.steps {
			block := bytesOf(f, s.block)
			input = append(append(input, byte(len(block))), block...)
		}
		f.Add(input)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		in := NewInterner(64, 32)
		ours, bounded := NewDecoder(in, 4096), NewDecoder(in, 4096)
		theirs := hpack.NewDecoder(4096, nil)
		for s := (&script{input}); len(s.rest) > 0; {
			n := s.byte()
			if n == 255 {
				size := s.size()
				ours.SetTableSize(size)
				bounded.SetTableSize(size)
				theirs.SetAllowedMaxDynamicTableSize(size)
				continue
			}
			block := bytes.Clone(s.bytes(int(n)))
			want, theirErr := theirs.DecodeFull(block)
			got, err := ours.Decode(nil, block, unlimited)
			const maxList = 200
			part, partErr := bounded.Decode(nil, block, maxList)
			clear(block)
			if (err == nil) != (theirErr == nil) {
				if !differ(err, theirErr) {
					t.Fatalf("ours: %v, theirs: %v", err, theirErr)
				}
				return // the tables may differ from here on
			}
			if err != nil {
				require.IsType(t, CompressionError(""), err)
				require.Equal(t, err, partErr)
				return
			}
			requireSame(t, want, got)
			requireSound(t, &ours.table)
			requireBounded(t, got, part, maxList, partErr)
			require.Equal(t, tablePairs(&ours.table), tablePairs(&bounded.table))
		}
	})
}

// differ reports whether one of the decoders may refuse what the other takes: nil is who takes it.
func differ(ours, theirs error) bool {
	switch ours {
	case errInteger, errUpdateCount, errUpdatePlace, errUpdateMissing, errUpdateTooLarge:
		return true
	case nil:
		return strings.Contains(theirs.Error(), "dynamic table size update MUST occur at the beginning")
	}
	return false
}

func requireSame(t *testing.T, want []hpack.HeaderField, got []*Field) {
	t.Helper()
	require.Len(t, got, len(want))
	for i, f := range got {
		require.Equal(t, want[i], hpack.HeaderField{Name: f.Name, Value: f.Value, Sensitive: f.Sensitive})
	}
}

func requireSound(t *testing.T, table *table) {
	t.Helper()
	size := 0
	for _, p := range tablePairs(table) {
		size += fieldOverhead + len(p.name) + len(p.value)
	}
	require.EqualValues(t, size, table.size)
	require.LessOrEqual(t, table.size, table.max)
}

func requireBounded(t *testing.T, all, part []*Field, maxList int, err error) {
	t.Helper()
	size := 0
	for i, f := range all {
		size += f.Size()
		if size > maxList {
			require.Equal(t, ErrListTooLarge, err)
			require.Equal(t, pairs(all[:i]), pairs(part))
			return
		}
	}
	require.NoError(t, err)
	require.Equal(t, pairs(all), pairs(part))
}

// FuzzRoundTrip plays a connection both ways: what our Encoder writes is read by the decoder of golang.org/x/net and by ours, what
// the encoder of golang.org/x/net writes is read by ours, with table sizes that change between blocks as SETTINGS do.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte{3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 255, 10, 255, 200, 3, 0, 1, 2})
	f.Add([]byte{4, 0x40, 3, 'a', 'b', 'c', 2, 'd', 'e', 0x81, 0x1f, 7, 4, 0, 7, 7, 7})
	f.Add(bytes.Repeat([]byte{9, 5, 6, 7, 8, 9, 10, 11, 12, 13, 255, 40}, 5))
	f.Fuzz(func(t *testing.T, input []byte) {
		in := NewInterner(64, 32)
		ours, oursDecoder := NewEncoder(), NewDecoder(in, 4096)
		theirsDecoder := hpack.NewDecoder(4096, nil)
		var buf bytes.Buffer
		theirs, theirsReader := hpack.NewEncoder(&buf), NewDecoder(in, 4096)
		for s := (&script{input}); len(s.rest) > 0; {
			n := s.byte()
			if n == 255 {
				size := s.size()
				ours.SetMaxTableSize(size)
				oursDecoder.SetTableSize(size)
				theirsDecoder.SetAllowedMaxDynamicTableSize(size)
				theirs.SetMaxDynamicTableSize(size)
				theirsReader.SetTableSize(size)
				continue
			}
			var fields []*Field
			var want []hpack.HeaderField
			for range n % 16 {
				f := s.field(in)
				fields = append(fields, f)
				want = append(want, hpack.HeaderField{Name: f.Name, Value: f.Value, Sensitive: f.Sensitive})
			}

			block := ours.Append(nil, fields)
			read, err := theirsDecoder.DecodeFull(block)
			require.NoError(t, err)
			require.Equal(t, want, read)
			got, err := oursDecoder.Decode(nil, block, unlimited)
			require.NoError(t, err)
			requireSame(t, want, got)
			require.Equal(t, tablePairs(&ours.table), tablePairs(&oursDecoder.table))
			requireSound(t, &ours.table)
			requireFindsTable(t, ours)

			buf.Reset()
			for _, f := range want {
				require.NoError(t, theirs.WriteField(f))
			}
			got, err = theirsReader.Decode(nil, buf.Bytes(), unlimited)
			require.NoError(t, err)
			requireSame(t, want, got)
			requireSound(t, &theirsReader.table)
		}
	})
}

// field is one of 64 that come again, or one that the script spells out, which may be sensitive.
func (s *script) field(in *Interner) *Field {
	switch b := s.byte(); {
	case b < 16:
		return staticFields[1+int(b)*3]
	case b < 0x40:
		return in.Field("x-"+string(rune('a'+b%7)), strings.Repeat(string(rune('a'+b%26)), int(b)*lengthen(b)), false)
	default:
		name := string(s.bytes(int(s.byte() % 24)))
		value := string(s.bytes(int(s.byte())))
		return in.Field(name, strings.Repeat(value, 1+int(b&3)), b&0x80 != 0)
	}
}

// lengthen makes some of the values of fields that come again longer than an Interner keeps, or an Encoder indexes.
func lengthen(b byte) int {
	if b%8 == 7 {
		return 12
	}
	return 1
}
