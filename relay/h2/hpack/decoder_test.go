package hpack

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDecoder_CompressionErrors(t *testing.T) {
	const indexTenantBlue = "4008782d74656e616e7404626c7565"
	for _, c := range []struct {
		name, block string
		want        CompressionError
	}{
		{"index 0", "80", errIndex},
		{"index beyond the tables", "be", errIndex},
		{"index beyond the tables, of two bytes", "ff00", errIndex},
		{"index beyond the table's entries", indexTenantBlue + "bf", errIndex},
		{"name's index beyond the tables", "7e00", errIndex},
		{"name's index beyond the tables, never indexed", "1f2f00", errIndex},
		{"integer of more than 32 bits", "ff8180808010", errInteger}, // would wrap to 128
		{"integer of 7 bytes", "ff808080808000", errInteger},
		{"integer without an end", "ffffffffffff", errInteger},
		{"truncated integer", "ff80", errTruncated},
		{"truncated name's index", "0f", errTruncated},
		{"no name", "40", errTruncated},
		{"truncated name", "40026e", errTruncated},
		{"no value", "41", errTruncated},
		{"truncated value", "410276", errTruncated},
		{"length beyond the block", "417fffff7f76", errTruncated},
		{"truncated after a field", "8241", errTruncated},
		{"Huffman: padding of zeros", "418118", errHuffman}, // 'a' is 00011
		{"Huffman: padding of 8 bits", "41821fff", errHuffman},
		{"Huffman: padding only", "4181ff", errHuffman}, // 8 ones
		{"Huffman: EOS", "4184ffffffff", errHuffman},
		{"Huffman: EOS after a byte", "41851ffffffffc", errHuffman},
		{"Huffman: truncated code", "4181fe", errHuffman},
		{"Huffman: in a name", "0081180176", errHuffman},
		{"table size update after a field", "8220", errUpdatePlace},
		{"three table size updates", "202020", errUpdateCount},
		{"table size update beyond the limit", "3fe21f", errUpdateTooLarge},
		{"second table size update beyond the limit", "203fe21f", errUpdateTooLarge},
		{"truncated table size update", "3f", errTruncated},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := NewDecoder(NewInterner(64, 64), 4096).Decode(nil, bytesOf(t, c.block), unlimited)
			require.Equal(t, c.want, err)
		})
	}
}

func TestDecoder_AcceptsWhatIsUnusualButAllowed(t *testing.T) {
	for name, block := range map[string]string{
		"integer with a needless byte": "7f8080808000" + "00", // 63 in 6 bytes, an index of the dynamic table
		"two table size updates":       "203fe11f82",
		"only a table size update":     "20",
		"empty":                        "",
		"padding of 7 bits":            "008418c631ff0176", // five times the 5 bits of a
	} {
		t.Run(name, func(t *testing.T) {
			d := NewDecoder(NewInterner(64, 64), 4096)
			for _, p := range []string{"4001610162", "4001630164"} {
				_, err := d.Decode(nil, bytesOf(t, p), unlimited)
				require.NoError(t, err)
			}
			_, err := d.Decode(nil, bytesOf(t, block), unlimited)
			require.NoError(t, err)
		})
	}
}

func TestDecoder_LoweredTableSizeMustBeTakenUp(t *testing.T) {
	type set uint32
	for _, c := range []struct {
		name  string
		steps []any // a set is acknowledged, a string is a block, an error is that of the block before it
	}{
		{"lowered", []any{set(100), "82", errUpdateMissing}},
		{"lowered and taken up", []any{set(100), "3f4582", "82"}},
		{"lowered and gone below", []any{set(100), "2082", "82"}},
		{"lowered and not enough", []any{set(100), "3f4682", errUpdateTooLarge}},
		{"lowered and raised", []any{set(100), set(4096), "82", errUpdateMissing}},
		{"lowered and raised, and not below the lowest", []any{set(100), set(4096), "3fe11f82", errUpdateTooLarge}},
		{"lowered and raised, both taken up", []any{set(100), set(4096), "3f453fe11f82", "82"}},
		{"lowered and raised, the lowest taken up", []any{set(100), set(4096), "3f4582", "3fe11f82"}},
		{"lowered twice", []any{set(50), set(100), "3f4582", errUpdateTooLarge}},
		{"raised", []any{set(8192), "82", "3fe13f82"}},
		{"to what it is", []any{set(4096), "82"}},
		{"lowered to where the peer is already", []any{"3f4582", set(100), "82"}},
		{"lowered, an empty block between", []any{set(100), "", "82", errUpdateMissing}},
		{"lowered, only an update", []any{set(100), "20", "82"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := NewDecoder(NewInterner(64, 64), 4096)
			var err error
			for _, s := range c.steps {
				switch s := s.(type) {
				case set:
					require.NoError(t, err)
					d.SetTableSize(uint32(s))
				case string:
					require.NoError(t, err)
					_, err = d.Decode(nil, bytesOf(t, s), unlimited)
				case CompressionError:
					require.Equal(t, s, err)
					return
				}
			}
			require.NoError(t, err)
		})
	}
}

func TestNewDecoder_StartsWithTheTableThatThePeerStartsWith(t *testing.T) {
	in := NewInterner(64, 64)
	require.EqualValues(t, 100, NewDecoder(in, 100).table.max)
	d := NewDecoder(in, 65536)
	require.EqualValues(t, 4096, d.table.max)
	_, err := d.Decode(nil, bytesOf(t, "3fe1ff03"), unlimited)
	require.NoError(t, err)
	require.EqualValues(t, 65536, d.table.max)
}

// RFC 7541 section 4.4.
func TestDecoder_FieldLargerThanTheTableEmptiesIt(t *testing.T) {
	d := NewDecoder(NewInterner(64, 64), 100)
	_, err := d.Decode(nil, bytesOf(t, "4001610162"), unlimited)
	require.NoError(t, err)
	require.EqualValues(t, 1, d.table.n)
	long := strings.Repeat("v", 68)
	fields, err := d.Decode(nil, append([]byte{0x40, 1, 'a', 68}, long...), unlimited)
	require.NoError(t, err)
	require.Equal(t, []pair{{"a", long}}, pairs(fields))
	require.Zero(t, d.table.n)
	require.Zero(t, d.table.size)
	long = long[1:]
	_, err = d.Decode(nil, append([]byte{0x40, 1, 'a', 67}, long...), unlimited)
	require.NoError(t, err)
	require.EqualValues(t, 100, d.table.size)
}

// A field may take its name from the entry that it drives out (RFC 7541 section 4.4).
func TestDecoder_NameOfTheEntryThatIsEvicted(t *testing.T) {
	d := NewDecoder(NewInterner(64, 64), 40)
	_, err := d.Decode(nil, bytesOf(t, "4001610162"), unlimited)
	require.NoError(t, err)
	fields, err := d.Decode(nil, bytesOf(t, "7e0163"), unlimited)
	require.NoError(t, err)
	require.Equal(t, []pair{{"a", "c"}}, pairs(fields))
	require.Equal(t, []pair{{"a", "c"}}, tablePairs(&d.table))
}

func TestDecoder_ListTooLarge(t *testing.T) {
	in := NewInterner(64, 64)
	d := NewDecoder(in, 4096)
	// a=b, which counts 34, three times; the last two go into the table. c=d after them.
	block := bytesOf(t, "0001610162"+"4001610162"+"4001610162"+"4001630164")
	for _, c := range []struct {
		maxList uint32
		want    int
	}{{4 * 34, 4}, {4*34 - 1, 3}, {2 * 34, 2}, {33, 0}, {0, 0}} {
		fields, err := d.Decode(nil, block, c.maxList)
		require.Len(t, fields, c.want)
		if c.want == 4 {
			require.NoError(t, err)
		} else {
			require.Equal(t, ErrListTooLarge, err)
		}
		fields, err = d.Decode(nil, bytesOf(t, "bebf"), unlimited)
		require.NoError(t, err, "the table is in step")
		require.Equal(t, []pair{{"c", "d"}, {"a", "b"}}, pairs(fields))
	}
	_, err := d.Decode(nil, bytesOf(t, "820001610162"+"0001"), 1)
	require.Equal(t, errTruncated, err, "a compression error matters more")
	// Once beyond, a smaller field is not appended either.
	fields, err := NewDecoder(in, 4096).Decode(nil, bytesOf(t, "000161"+"0162"+"00016108"+"6262626262626262"+"0001610162"), 34+34+1)
	require.Equal(t, ErrListTooLarge, err)
	require.Len(t, fields, 1)
}

// A small block must not expand to more than the caller allowed: an entry of 4 KiB, 10,000 times, is 40 MiB in 10 KB.
func TestDecoder_HeaderBomb(t *testing.T) {
	d := NewDecoder(NewInterner(64, 64), 4096)
	block := append([]byte{0x40, 1, 'a', 0x7f, 0x80, 0x1e}, strings.Repeat("v", 3967)...)
	block = append(block, strings.Repeat("\xbe", 10_000)...)
	const maxList = 16 << 10
	var fields []*Field
	before := heap()
	allocs := testing.AllocsPerRun(10, func() {
		var err error
		fields, err = d.Decode(fields[:0], block, maxList)
		require.Equal(t, ErrListTooLarge, err)
	})
	require.Len(t, fields, 4)
	require.LessOrEqual(t, cap(fields), 8)
	require.Less(t, allocs, 8.0)
	require.Less(t, heap(), before+64<<10)

	// Nor do 40 MiB of index fields of a list that is too large already.
	total := 0
	for range 100 {
		fields, err := d.Decode(nil, block, 0)
		require.Equal(t, ErrListTooLarge, err)
		total += cap(fields)
	}
	require.Zero(t, total)
}

func TestDecoder_TableStaysWithinItsSize(t *testing.T) {
	d := NewDecoder(NewInterner(64, 64), 4096)
	before := heap()
	var block []byte
	for i := range 100_000 {
		v := fmt.Sprintf("%08d", i)
		block = append(append(block[:0], 0x40, 1, 'a', 8), v...)
		_, err := d.Decode(nil, block, unlimited)
		require.NoError(t, err)
	}
	require.LessOrEqual(t, d.table.size, uint32(4096))
	require.Len(t, d.table.ring, 128)
	// 99 entries of 41 bytes by the RFC's count; a Field and its literal are about 80.
	require.Less(t, heap(), before+32<<10)
	_, err := d.Decode(nil, []byte{0x20}, unlimited)
	require.NoError(t, err)
	require.Nil(t, d.table.ring)
}

func TestDecoder_DoesNotKeepTheBlock(t *testing.T) {
	d := NewDecoder(NewInterner(64, 64), 4096)
	block := bytesOf(t, "4001610162")
	fields, err := d.Decode(nil, block, unlimited)
	require.NoError(t, err)
	clear(block)
	require.Equal(t, []pair{{"a", "b"}}, pairs(fields))
	require.Equal(t, []pair{{"a", "b"}}, tablePairs(&d.table))
}
