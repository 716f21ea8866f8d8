package hpack

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/test/race"
)

// len counts the fields that are kept.
func (in *Interner) len() int {
	n := 0
	for i := range in.sets {
		for _, f := range in.sets[i] {
			if f != nil {
				n++
			}
		}
	}
	return n
}

func TestInterner_SharesEqualFields(t *testing.T) {
	in := NewInterner(64, 16)
	f := in.Field("x-tenant", "blue", false)
	require.Same(t, f, in.Field("x-tenant", "blue", false))
	require.NotSame(t, f, in.Field("x-tenan", "tblue", false))
	secret := in.Field("x-tenant", "blue", true)
	require.NotSame(t, f, secret)
	require.True(t, secret.Sensitive)
	require.Same(t, secret, in.Field("x-tenant", "blue", true))
	require.Same(t, staticFields[3], in.Field(":method", "POST", false))
	require.False(t, f.Sensitive)
}

func TestInterner_DoesNotKeepLongNamesAndValues(t *testing.T) {
	in := NewInterner(64, 16)
	long := strings.Repeat("v", 17)
	require.Equal(t, long, in.Field("x", long, false).Value)
	require.Equal(t, long, in.Field(long, "x", false).Name)
	require.Zero(t, in.len())
	require.Same(t, in.Field("x", long[1:], false), in.Field("x", long[1:], false))
}

func TestInterner_KeepsAtMostMaxFields(t *testing.T) {
	for maxFields, want := range map[int]int{-1: 0, 0: 0, 7: 0, 8: 8, 15: 8, 16: 16, 100: 64, 4096: 4096} {
		in := NewInterner(maxFields, 16)
		for i := range 20 * max(maxFields, 1) {
			f := in.Field("x", fmt.Sprint(i), false)
			require.Equal(t, fmt.Sprint(i), f.Value)
			require.LessOrEqual(t, len(in.sets)*ways, max(maxFields, 0))
		}
		require.LessOrEqual(t, in.len(), want)
		require.GreaterOrEqual(t, in.len(), want*9/10, "maxFields %d", maxFields)
	}
}

// A quarter of what fits, used in turn, is shared but for a few sets that have too many of them by chance.
func TestInterner_KeepsWhatIsUsed(t *testing.T) {
	in := NewInterner(4096, 64)
	const n = 1024
	made := 0
	last := [n]*Field{}
	for range 50 {
		for i := range n {
			f := in.Field("x-user", fmt.Sprint(i), false)
			if f != last[i] {
				last[i] = f
				made++
			}
		}
	}
	require.Less(t, made, 2*n, "of %d", 50*n)
}

// A peer that sends a new value each time neither makes the interner grow, nor drives out what others use.
func TestInterner_UniqueValuesByTheMillion(t *testing.T) {
	const maxFields, every = 1024, 256
	unique := race.Choose(1<<20, 1<<18)
	in := NewInterner(maxFields, 64)
	for i := range maxFields * 4 { // full at the beginning, of other values
		in.Field("x-old", fmt.Sprint(i), false)
	}
	before := heap()
	hot := map[string]*Field{}
	missed := 0
	var value []byte
	for i := range unique {
		value = fmt.Appendf(value[:0], "%032x", i)
		in.field([]byte("x-request-id"), value, false)
		if i%every != 0 {
			continue
		}
		for j := range 8 {
			name := "x-hot-" + string(rune('a'+j))
			if f := in.Field(name, "value", false); f != hot[name] {
				hot[name] = f
				missed++
			}
		}
	}
	require.LessOrEqual(t, in.len(), maxFields)
	// A hot field must be asked for a second time before its set takes in four others, which is by chance.
	require.Less(t, missed, 40, "of %d", 8*unique/every)
	require.Less(t, heap(), before+512<<10)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestInterner_IdleCostsNothing(t *testing.T) {
	require.Nil(t, NewInterner(1<<20, 1<<20).sets)
}
