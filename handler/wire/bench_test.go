package wire

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/cloudwego/prutal"
	"github.com/stretchr/testify/require"
)

// sample is a message of about 1 KiB: 20 fields that All knows, and two that it does not.
func sample(tb testing.TB) (original, before, after []byte) {
	tb.Helper()
	some := strings.Repeat("x", 100)
	v := &All{S: some, B: []byte(some), I: 1, Z: -1, F: math.MaxUint64, D: 1.5, Ok: true, Color: 1, Opt: pointer(int32(1)),
		Opts: &some, Ints: []int32{1, 2, 3}, Unpacked: []int64{1, 2}, Words: []string{some, some}, Doubles: []float64{1, 2},
		Leaf: &Leaf{Name: some, N: 1}, Leaves: []*Leaf{{Name: some}, {N: 2}}, Labels: map[string]string{"a": "b"},
		ByID: map[int32]*Leaf{1: {N: 1}}, Choice: &AllText{some}, Child: &All{S: some}}
	original = join(encodeOld(tb, v), text(100, some), varint(200, 1))
	decoded := new(All)
	require.NoError(tb, prutal.Unmarshal(original, decoded))
	before = encodeOld(tb, decoded)
	decoded.I, decoded.Leaf.N = 99, 98
	return original, before, encodeOld(tb, decoded)
}

func BenchmarkMerge_1KiBOf20Fields(b *testing.B) {
	original, before, after := sample(b)
	m := describeT[All](b)
	b.Run("two fields changed", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(original)))
		for b.Loop() {
			if _, err := m.Merge(original, before, after); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("nothing changed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := m.Merge(original, before, before); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("described each time", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Merge(original, before, after, reflect.TypeFor[All]()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// The per-message path takes memory for the result and for where the changed messages lie.
func TestMerge_TakesLittleMemory(t *testing.T) {
	original, before, after := sample(t)
	m := describeT[All](t)
	allocations := testing.AllocsPerRun(100, func() {
		_, _ = m.Merge(original, before, after)
	})
	require.LessOrEqual(t, allocations, 4.0)
}
