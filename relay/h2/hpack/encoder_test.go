package hpack

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/race"
)

func TestEncoder_IndexesAtTheSecondUse(t *testing.T) {
	e := NewEncoder()
	fields := intern(NewInterner(64, 64), []pair{{":method", "POST"}, {"a", "b"}})
	for i, want := range []string{"830001610162", "834001610162", "83be", "83be"} {
		require.Equal(t, want, hex.EncodeToString(e.Append(nil, fields)), "block %d", i)
	}
}

func TestEncoder_AppendsToWhatIsThere(t *testing.T) {
	dst := NewEncoder().Append([]byte("before"), intern(NewInterner(64, 64), []pair{{"a", "b"}}))
	require.Equal(t, "before\x00\x01a\x01b", string(dst))
}

// A field that an Interner did not keep, or another made, is the same field.
func TestEncoder_FindsEqualFields(t *testing.T) {
	e := NewEncoder()
	for _, want := range []string{"0001610162", "4001610162", "be", "be"} {
		require.Equal(t, want, hex.EncodeToString(e.Append(nil, []*Field{NewField("a", "b", false)})))
	}
	require.Equal(t, "1001610162", hex.EncodeToString(e.Append(nil, []*Field{NewField("a", "b", true)})))
}

func TestEncoder_NeverIndexes(t *testing.T) {
	for name, f := range map[string]*Field{
		"sensitive":              NewField("authorization", "secret", true),
		"sensitive, as a static": NewField(":method", "GET", true),
		"timeout":                NewField("grpc-timeout", "1S", false),
		"a client's secret":      NewField("authorization", "secret", false),
		"another":                NewField("cookie", "secret", false),
		"long":                   NewField("a", strings.Repeat("v", maxIndexedBytes), false),
	} {
		e := NewEncoder()
		for range 5 {
			require.Equal(t, f.literal, string(e.Append(nil, []*Field{f})), name)
		}
		require.Zero(t, e.table.n, name)
		require.Equal(t, f.Sensitive, f.literal[0]&0xf0 == literalNever.bits, name)
	}
}

func TestEncoder_TableSizeUpdates(t *testing.T) {
	for _, c := range []struct {
		name   string
		blocks [][]uint32 // the sizes that are set before each
		want   []string
	}{
		{"none", [][]uint32{{}}, []string{""}},
		{"as it is", [][]uint32{{4096}}, []string{""}},
		{"larger than ours", [][]uint32{{65536}, {1<<32 - 1}}, []string{"", ""}},
		{"lowered", [][]uint32{{100}, {}}, []string{"3f45", ""}},
		{"to 0", [][]uint32{{0}, {}}, []string{"20", ""}},
		{"lowered and raised", [][]uint32{{100, 4096}, {}}, []string{"203fe11f", ""}},
		{"lowered and raised in two blocks", [][]uint32{{100}, {4096}, {}}, []string{"3f45", "3fe11f", ""}},
		{"lowered and raised and lowered", [][]uint32{{10, 200, 100}, {}}, []string{"203f45", ""}},
		{"lowered and raised to what it was", [][]uint32{{100}, {50, 100}, {}}, []string{"3f45", "203f45", ""}},
		{"raised and lowered", [][]uint32{{100}, {4096, 100}}, []string{"3f45", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := NewEncoder()
			for i, sizes := range c.blocks {
				for _, n := range sizes {
					e.SetMaxTableSize(n)
				}
				require.Equal(t, c.want[i], hex.EncodeToString(e.Append(nil, nil)), "block %d", i)
			}
		})
	}
}

// With more fields in use than the table has room for, few of them drive out others.
func TestEncoder_EvictsForOneFieldInSomeBlocks(t *testing.T) {
	in := NewInterner(1024, 64)
	e := NewEncoder()
	e.SetMaxTableSize(10 * 35)
	var first, second []*Field
	for i := range 10 {
		first = append(first, in.Field("a", fmt.Sprintf("1%d", i), false))
		second = append(second, in.Field("a", fmt.Sprintf("2%d", i), false))
	}
	for range 2 {
		e.Append(nil, first)
	}
	require.EqualValues(t, 10, e.table.n)
	e.Append(nil, second)
	for i := range 10 * evictEvery {
		e.Append(nil, second)
		kept := 0
		for _, f := range first {
			if _, ok := e.find(f); ok {
				kept++
			}
		}
		require.Equal(t, 9-i/evictEvery, kept, "after %d blocks", i)
	}
	require.Len(t, e.Append(nil, second), 10, "all of the second set are indexed")
}

// Whatever goes in and out, the slots find what the table has and nothing else.
func TestEncoder_SlotsFindTheTable(t *testing.T) {
	in := NewInterner(4096, 64)
	e := NewEncoder()
	var all []*Field
	for i := range 300 {
		all = append(all, in.Field("a", fmt.Sprint(i*i*i), false))
	}
	n := uint32(1)
	for i := range 20_000 {
		n = n*1664525 + 1013904223
		if n>>24 == 0 {
			e.SetMaxTableSize(n >> 8 % 5000)
		}
		e.Append(nil, []*Field{all[n>>8%300], all[n>>8%300]})
		if i%50 == 0 {
			require.LessOrEqual(t, e.table.size, e.table.max)
			requireFindsTable(t, e)
		}
	}
}

func requireFindsTable(t *testing.T, e *Encoder) {
	used := uint32(0)
	for _, s := range e.slots {
		if s != 0 {
			used++
		}
	}
	require.Equal(t, e.table.n, used)
	for i := range e.table.n {
		at, ok := e.find(e.table.at(i))
		require.True(t, ok)
		require.Equal(t, e.table.position(i), at)
	}
}

func TestEncoder_IdleCostsNothing(t *testing.T) {
	e := NewEncoder()
	require.Nil(t, e.table.ring)
	require.Nil(t, e.slots)
	require.Nil(t, e.seen)
	e.Append(nil, intern(NewInterner(64, 64), []pair{{":status", "200"}, {"grpc-timeout", "1S"}}))
	require.Nil(t, e.seen)
}

// Header sets that repeat cost no allocation, whichever way they come.
func TestCodec_AllocatesNothingForRepeatedSets(t *testing.T) {
	in := NewInterner(4096, 1024)
	e, d, literals := NewEncoder(), NewDecoder(in, 4096), NewDecoder(in, 4096)
	none := NewEncoder()
	none.SetMaxTableSize(0)
	var block []byte
	var fields []*Field
	i := 0
	timeouts := timeouts(64)
	again := func() {
		for _, set := range [][]pair{request, timeouts[i%64 : i%64+1], response, trailers} {
			fields = fields[:0]
			for _, p := range set {
				fields = append(fields, in.Field(p.name, p.value, false))
			}
			var err error
			block = e.Append(block[:0], fields)
			if fields, err = d.Decode(fields[:0], block, unlimited); err != nil || len(fields) != len(set) {
				t.Fatal(len(fields), err)
			}
			block = none.Append(block[:0], fields)
			if fields, err = literals.Decode(fields[:0], block, unlimited); err != nil || len(fields) != len(set) {
				t.Fatal(len(fields), err)
			}
		}
		i++
	}
	for range 200 {
		again()
	}
	require.Zero(t, testing.AllocsPerRun(500, again))
}

func TestDecoder_AllocatesNothingForHuffmanCodes(t *testing.T) {
	d := NewDecoder(NewInterner(64, 64), 4096)
	block := bytesOf(t, "0088"+"25a849e95ba97d7f"+"89"+"25a849e95bb8e8b4bf")
	var fields []*Field
	// The decoder of golang.org/x/net takes its buffer from a sync.Pool, which loses some with the race detector on.
	require.LessOrEqual(t, testing.AllocsPerRun(500, func() {
		var err error
		if fields, err = d.Decode(fields[:0], block, unlimited); err != nil {
			t.Fatal(err)
		}
	}), race.Choose(0.0, 3.0))
	require.Equal(t, []pair{{"custom-key", "custom-value"}}, pairs(fields))
}
