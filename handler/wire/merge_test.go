package wire

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/cloudwego/prutal"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/framegate/framegate/kitex_gen/echo"
	"github.com/framegate/framegate/kitex_gen/shop"
)

// The wire in words, for messages that no encoder writes.
func varint(n protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), v)
}

func text(n protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, n, protowire.BytesType), s)
}

func group(n protowire.Number, inside ...[]byte) []byte {
	return protowire.AppendGroup(protowire.AppendTag(nil, n, protowire.StartGroupType), n, join(inside...))
}

func message(n protowire.Number, inside ...[]byte) []byte { return text(n, string(join(inside...))) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// This is why the package is.
func TestKitexType_LosesUnknownFieldsWithoutMerge(t *testing.T) {
	original := join(text(1, "apple"), text(9, "of a newer schema"))
	var m shop.PriceRequest
	require.NoError(t, m.Unmarshal(original))
	m.Item = "pear"
	after, err := m.Marshal(nil)
	require.NoError(t, err)
	require.Equal(t, text(1, "pear"), after)
}

func TestMerge_KitexTypesKeepUnknownFields(t *testing.T) {
	original := join(text(9, "new"), text(1, "apple"), varint(1000, 5))
	out := merged(t, original, func(m *shop.PriceRequest) { m.Item = "pear" })
	require.Equal(t, join(text(9, "new"), text(1, "pear"), varint(1000, 5)), out)

	original = join(text(1, "hi"), text(2, "payload"), group(77, varint(3, 4)), varint(3, 1))
	out = merged(t, original, func(m *echo.Request) { m.Payload, m.Count = nil, 2 })
	require.Equal(t, join(text(1, "hi"), group(77, varint(3, 4)), varint(3, 2)), out)
}

func TestMerge_NothingChangedIsTheOriginalItself(t *testing.T) {
	original := join(text(9, "new"), text(1, "apple"))
	out, err := Merge(original, text(1, "apple"), text(1, "apple"), reflect.TypeFor[shop.PriceRequest]())
	require.NoError(t, err)
	require.Same(t, &original[0], &out[0])
}

func TestMerge_TakesStructsAndPointersToThem(t *testing.T) {
	for _, typ := range []reflect.Type{reflect.TypeFor[shop.PriceRequest](), reflect.TypeFor[*shop.PriceRequest]()} {
		out, err := Merge(join(text(1, "a"), text(9, "x")), text(1, "a"), text(1, "b"), typ)
		require.NoError(t, err)
		require.Equal(t, join(text(1, "b"), text(9, "x")), out)
	}
}

func TestMerge_TypesThatKeepUnknownFieldsAreTakenFromAfter(t *testing.T) {
	before, err := proto.Marshal(&timestamppb.Timestamp{Seconds: 1})
	require.NoError(t, err)
	after := join(varint(1, 2), text(9, "x"))
	out, err := Merge(join(before, text(9, "x")), before, after, reflect.TypeFor[timestamppb.Timestamp]())
	require.NoError(t, err)
	require.Equal(t, after, out)
}

func TestMerge_TypesWithRoomForUnknownFields(t *testing.T) {
	type Old struct {
		S                string `protobuf:"bytes,1,opt,name=s"`
		N                int64  `protobuf:"varint,3,opt,name=n"`
		XXX_unrecognized []byte
	}
	original := join(text(2, "x"), varint(3, 4), text(9, "y"), text(1, "s"))
	out := merged(t, original, func(m *Old) { m.S = "t" })
	require.Equal(t, join(text(2, "x"), varint(3, 4), text(9, "y"), text(1, "t")), out)

	out = merged(t, original, func(m *Old) { m.XXX_unrecognized = nil })
	require.Equal(t, join(varint(3, 4), text(1, "s")), out)
}

func TestMerge_FieldThatAppearsAndFieldThatVanishes(t *testing.T) {
	original := join(varint(50, 1), text(1, "s"), varint(51, 2))
	out := merged(t, original, func(m *All) { m.S, m.I, m.Opt = "", 3, pointer(int32(0)) })
	require.Equal(t, join(varint(50, 1), varint(51, 2), varint(3, 3), varint(9, 0)), out)
}

func TestMerge_UnchangedFieldsKeepTheirBytes(t *testing.T) {
	odd := join([]byte{0x98, 0x00, 0x85, 0x80, 0x00}, varint(7, 0), text(10, ""), // long varints, zeros that were sent
		message(11, []byte{1, 2}), varint(11, 3), // a list half packed
		text(13, "a"), varint(60, 1), text(13, "b"))
	out := merged(t, join(odd, text(1, "s")), func(m *All) { m.S = "t" })
	require.Equal(t, join(odd, text(1, "t")), out)
}

func TestMerge_ScalarSeveralTimesIsReplacedAtItsLast(t *testing.T) {
	original := join(varint(3, 1), text(60, "x"), varint(3, 2), text(61, "y"))
	require.Equal(t, join(text(60, "x"), varint(3, 9), text(61, "y")), merged(t, original, func(m *All) { m.I = 9 }))
	require.Equal(t, join(text(60, "x"), text(61, "y")), merged(t, original, func(m *All) { m.I = 0 }))
}

func TestMerge_MessageSeveralTimesIsJoined(t *testing.T) {
	original := join(message(15, text(1, "a"), text(20, "x")), varint(60, 1), message(15, varint(2, 3), text(30, "y")))
	out := merged(t, original, func(m *All) { m.Leaf.N = 4 })
	require.Equal(t, join(varint(60, 1), message(15, text(1, "a"), text(20, "x"), varint(2, 4), text(30, "y"))), out)
}

func TestMerge_UnpackedListsArePackedAgainOnlyWhenChanged(t *testing.T) {
	original := join(varint(11, 1), text(60, "x"), varint(11, 2), message(14))
	out := merged(t, original, func(m *All) { m.Ints = append(m.Ints, 3) })
	require.Equal(t, join(text(60, "x"), message(11, []byte{1, 2, 3}), message(14)), out)
}

// prutal keeps only the last piece, so what it encodes lacks the others.
func TestMerge_PackedListInPiecesIsRefusedWhenChanged(t *testing.T) {
	original := join(message(11, []byte{1}), message(11, []byte{2}))
	_, err := tryMerge(t, original, func(m *All) { m.Ints = append(m.Ints, 3) })
	require.ErrorIs(t, err, ErrAmbiguous)
	require.ErrorContains(t, err, "field 11 (Ints)")
	require.Equal(t, join(original, text(1, "s")), merged(t, original, func(m *All) { m.S = "s" }))
}

func TestMerge_OneofMembersThatWereOverriddenStayDead(t *testing.T) {
	original := join(text(21, "first"), message(23, text(1, "leaf"), text(20, "x")), varint(22, 5), text(60, "y"))
	for name, c := range map[string]struct {
		change func(*All)
		want   []byte
	}{
		"cleared":     {func(m *All) { m.Choice = nil }, text(60, "y")},
		"same member": {func(m *All) { m.Choice = &AllNum{6} }, join(varint(22, 6), text(60, "y"))},
		"a member that was overridden": {
			func(m *All) { m.Choice = &AllPick{&Leaf{N: 1}} }, join(message(23, varint(2, 1)), text(60, "y"))},
		"a member before it": {func(m *All) { m.Choice = &AllText{"t"} }, join(text(21, "t"), text(60, "y"))},
		"another field":      {func(m *All) { m.S = "s" }, join(original, text(1, "s"))},
	} {
		require.Equal(t, c.want, merged(t, original, c.change), name)
	}
}

func TestMerge_OneofMemberOfANewerSchemaIsOverriddenByAnOldOne(t *testing.T) {
	original := join(text(24, "new member"), text(60, "y"))
	out := merged(t, original, func(m *All) { m.Choice = &AllText{"t"} })
	require.Equal(t, join(original, text(21, "t")), out)

	original = join(text(21, "dead"), text(24, "dead too"), varint(22, 5))
	out = merged(t, original, func(m *All) { m.Choice = &AllText{"t"} })
	require.Equal(t, join(text(24, "dead too"), text(21, "t")), out)
}

func leafOf(name, extra string) []byte { return message(16, text(1, name), text(20, extra)) }

func TestMerge_ElementsThatCannotBeToldApartComeFromAfter(t *testing.T) {
	original := join(leafOf("a", "1"), leafOf("a", "2"), leafOf("b", "3"), leafOf("c", "4"))
	for name, c := range map[string]struct {
		change func(*All)
		want   []byte
	}{
		"one of two equals removed": {func(m *All) { m.Leaves = m.Leaves[1:] },
			join(message(16, text(1, "a")), leafOf("b", "3"), leafOf("c", "4"))},
		"both removed": {func(m *All) { m.Leaves = m.Leaves[2:] }, join(leafOf("b", "3"), leafOf("c", "4"))},
		"removed and changed": {func(m *All) { m.Leaves = m.Leaves[2:]; m.Leaves[1].Name = "d" },
			join(message(16, text(1, "b")), message(16, text(1, "d")))},
		"others swapped": {func(m *All) { m.Leaves[2], m.Leaves[3] = m.Leaves[3], m.Leaves[2] },
			join(leafOf("a", "1"), leafOf("a", "2"), leafOf("c", "4"), leafOf("b", "3"))},
		"equals moved": {func(m *All) { m.Leaves[1], m.Leaves[2] = m.Leaves[2], m.Leaves[1] },
			join(leafOf("a", "1"), leafOf("b", "3"), leafOf("a", "2"), leafOf("c", "4"))},
		"two equals moved": {func(m *All) { m.Leaves = append(m.Leaves[2:], m.Leaves[:2]...) },
			join(leafOf("b", "3"), leafOf("c", "4"), message(16, text(1, "a")), message(16, text(1, "a")))},
		"changed in place": {func(m *All) { m.Leaves[1].Name, m.Leaves[2].Name = "b", "c" },
			join(leafOf("a", "1"), leafOf("b", "2"), leafOf("c", "3"), leafOf("c", "4"))},
	} {
		out := merged(t, original, c.change)
		require.Equal(t, c.want, out, "%s: %q", name, out)
	}
}

func TestMerge_MapEntriesAreMatchedByKeyHoweverEncoded(t *testing.T) {
	minusOne := []byte{8, 0xff, 0xff, 0xff, 0xff, 0x0f} // the key -1 in 32 bits, which encoders write in 64
	original := join(
		message(18, []byte{8, 0x81, 0x00}, message(2, text(20, "one"))), varint(60, 1),
		message(18, minusOne, message(2, text(20, "minus one")), text(3, "more")),
		message(18, varint(1, 2), message(2, text(20, "old two"))),
		message(18, varint(1, 2), message(2, text(20, "two"))))
	out := merged(t, original, func(m *All) {
		delete(m.ByID, 1)
		m.ByID[-1].N = 5
		m.ByID[7] = &Leaf{N: 7}
	})
	require.Equal(t, join(varint(60, 1),
		message(18, minusOne, message(2, text(20, "minus one"), varint(2, 5)), text(3, "more")),
		message(18, varint(1, 2), message(2, text(20, "two"))),
		message(18, varint(1, 7), message(2, varint(2, 7)))), out)
}

func TestMerge_MapEntryWithTwoKeysIsRefusedWhenTheMapChanged(t *testing.T) {
	original := message(17, text(1, "k"), text(2, "v"), text(1, "other"))
	_, err := tryMerge(t, original, func(m *All) { m.Labels["new"] = "x" })
	require.ErrorIs(t, err, ErrAmbiguous)
	require.ErrorContains(t, err, "field 17 (Labels)")
}

func TestMerge_OrderOfMapEntriesDoesNotMatter(t *testing.T) {
	entry := func(key string) []byte { return message(17, text(1, key), text(2, "v")) }
	original := join(entry("a"), varint(60, 1), entry("b"), entry("c"))
	for _, after := range [][]byte{join(entry("c"), entry("b"), entry("a")), join(entry("b"), entry("a"), entry("c"))} {
		out, err := Merge(original, join(entry("a"), entry("b"), entry("c")), after, reflect.TypeFor[All]())
		require.NoError(t, err)
		require.Equal(t, join(varint(60, 1), entry("a"), entry("b"), entry("c")), out)
	}
}

func TestMerge_LengthsOfMessagesGrowAndShrink(t *testing.T) {
	long := string(bytes.Repeat([]byte("x"), 300))
	grown := message(30, message(15, text(1, long), text(20, "e")), text(100, "n"))
	small := message(30, message(15, text(1, "s"), text(20, "e")), text(100, "n"))
	require.Equal(t, grown, merged(t, small, func(m *All) { m.Child.Leaf.Name = long }))
	require.Equal(t, small, merged(t, grown, func(m *All) { m.Child.Leaf.Name = "s" }))
}

func TestMerge_DepthHasALimit(t *testing.T) {
	nested := func(depth int) []byte {
		var b []byte
		for range depth {
			b = join(message(30, b), varint(60, 1))
		}
		return b
	}
	deepest := func(m *All) {
		for m.Child != nil {
			m = m.Child
		}
		m.S = "s"
	}
	merged(t, nested(MaxDepth-1), deepest)
	_, err := tryMerge(t, nested(MaxDepth), deepest)
	require.ErrorIs(t, err, ErrTooDeep)
	merged(t, nested(MaxDepth), func(m *All) { m.S = "s" }) // what is equal is not looked into
}

func TestMerge_MalformedIsAnError(t *testing.T) {
	m := describeT[All](t)
	good, other := text(1, "s"), text(1, "t")
	for _, bad := range [][]byte{{0x80}, {0x0a, 5, 'x'}, {0x0b}, {0x0c}, {0x00, 1}, {0x0f}} {
		for _, c := range [][3][]byte{{bad, good, other}, {good, bad, other}, {good, other, bad}} {
			_, err := m.Merge(c[0], c[1], c[2])
			require.ErrorIs(t, err, ErrMalformed, "%x", c)
		}
	}
}

func TestMerge_InputIsNotWrittenTo(t *testing.T) {
	original := join(leafOf("a", "1"), message(17, text(1, "k"), text(2, "v")), message(30, message(15, text(1, "n"))))
	v := new(All)
	require.NoError(t, prutal.Unmarshal(original, v))
	before := encodeOld(t, v)
	v.Leaves[0].N, v.Labels["k"], v.Child.Leaf.N = 5, "w", 6
	after := encodeOld(t, v)
	o, b, a := bytes.Clone(original), bytes.Clone(before), bytes.Clone(after)
	_, err := describeT[All](t).Merge(original, before, after)
	require.NoError(t, err)
	require.Equal(t, [][]byte{o, b, a}, [][]byte{original, before, after})
}

func TestDescribe_RefusesWhatItCannotRead(t *testing.T) {
	type badMap struct {
		M map[string]int32 `protobuf:"bytes,1,rep,name=m"`
	}
	for want, typ := range map[string]reflect.Type{
		"want a struct": reflect.TypeFor[int](),
		"type <nil>":    nil,
		"other than group": reflect.TypeFor[struct {
			G *Leaf `protobuf:"group,1,opt,name=g"`
		}](),
		`field number "0"`: reflect.TypeFor[struct {
			S string `protobuf:"bytes,0,opt,name=s"`
		}](),
		"which A has too": reflect.TypeFor[struct {
			A string `protobuf:"bytes,1,opt,name=a"`
			B string `protobuf:"bytes,1,opt,name=b"`
		}](),
		"map key string": reflect.TypeFor[badMap](),
	} {
		_, err := Describe(typ)
		require.ErrorContains(t, err, want)
	}
}

func TestMerge_MessagesByValueAndNestedTypesOfProtobuf(t *testing.T) {
	type Inner struct {
		N int64 `protobuf:"varint,1,opt,name=n"`
	}
	type Outer struct {
		V    Inner                  `protobuf:"bytes,1,opt,name=v"`
		List []Inner                `protobuf:"bytes,2,rep,name=list"`
		At   *timestamppb.Timestamp `protobuf:"bytes,3,opt,name=at"`
		M    map[string]Inner       `protobuf:"bytes,4,rep,name=m" protobuf_key:"bytes,1,opt" protobuf_val:"bytes,2,opt"`
	}
	x := text(9, "x")
	original := join(message(1, x), message(2, varint(1, 1), x), message(2, x), message(3, varint(1, 1), x),
		message(4, text(1, "k"), message(2, varint(1, 1), x)))
	out := merged(t, original, func(m *Outer) {
		m.V.N, m.List[1].N, m.At.Seconds = 5, 6, 7
		m.M["k"] = Inner{8}
	})
	require.Equal(t, join(message(1, x, varint(1, 5)), message(2, varint(1, 1), x), message(2, x, varint(1, 6)),
		message(3, varint(1, 7), x), message(4, text(1, "k"), message(2, varint(1, 8), x))), out)
}

// Merge is Message.Merge for the struct type t, which it inspects at each call: keep what Describe returns where
// messages come often.
func Merge(original, before, after []byte, t reflect.Type) ([]byte, error) {
	if bytes.Equal(before, after) {
		return original, nil
	}
	m, err := Describe(t)
	if err != nil {
		return nil, err
	}
	return m.Merge(original, before, after)
}
