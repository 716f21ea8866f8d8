package wire

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/cloudwego/prutal"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
)

// What a peer sends is merged so that the new schema sees the change and no other, or refused.
func FuzzMerge_Original(f *testing.F) {
	newType := newAll(f)
	for seed := range uint64(20) {
		m := newType.New()
		(&filler{Rand: rand.New(rand.NewPCG(seed, 3))}).fill(m, 2)
		original, err := proto.Marshal(m.Interface())
		require.NoError(f, err)
		f.Add(original)
	}
	f.Add(join(message(15, varint(2, 1)), group(70, group(71)), message(15, text(20, "x")), varint(2, 9)))
	f.Add(join(text(21, "a"), message(23, text(20, "x")), varint(22, 0)))
	f.Add(join(message(11, []byte{1}), message(11, []byte{2}), []byte{0x98, 0x00, 0x85, 0x80, 0x00}))
	describe := describeT[All](f)
	f.Fuzz(func(t *testing.T, original []byte) {
		old := new(All)
		want := dynamicpb.NewMessage(newType.Descriptor())
		if prutal.Unmarshal(original, old) != nil || proto.Unmarshal(original, want) != nil {
			return
		}
		before := encodeOld(t, old)
		old.S = "changed"
		if old.Leaf == nil {
			old.Leaf = new(Leaf)
		}
		old.Leaf.N = 77
		out, err := describe.Merge(original, before, encodeOld(t, old))
		if err != nil {
			require.True(t, errors.Is(err, ErrAmbiguous) || errors.Is(err, ErrTooDeep), "%v", err)
			return
		}
		node{want}.set("s", "changed")
		node{want}.message("leaf").set("n", int64(77))
		got := dynamicpb.NewMessage(newType.Descriptor())
		require.NoError(t, proto.Unmarshal(out, got))
		requireEqualMessages(t, want, got)
	})
}

// Whatever the three are, Merge ends without a panic and in bounds.
func FuzzMerge_AnyBytes(f *testing.F) {
	sample := join(text(1, "s"), message(16, text(1, "a")), message(17, text(1, "k"), text(2, "v")),
		varint(22, 1), varint(99, 1))
	f.Add(sample, sample, text(1, "t"))
	f.Add(sample, text(1, "s"), sample)
	f.Add([]byte{}, sample, join(sample, sample))
	f.Add(join(varint(22, 1), text(21, "x")), varint(22, 1), message(23, text(1, "p")))
	f.Add(join(message(16), message(16)), join(message(16), message(16, text(1, "b"))), message(16, text(1, "b")))
	typ := reflect.TypeFor[All]()
	f.Fuzz(func(t *testing.T, original, before, after []byte) {
		out, err := Merge(original, before, after, typ)
		if err != nil {
			ours := errors.Is(err, ErrMalformed) || errors.Is(err, ErrAmbiguous) || errors.Is(err, ErrTooDeep)
			require.True(t, ours, "%v", err)
			return
		}
		require.LessOrEqual(t, len(out), 2*(len(original)+len(after))+16)
	})
}
