package fieldpath

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/structpb"

	"google.golang.org/protobuf/proto"
)

// message joins fields.
func message(fields ...[]byte) (m []byte) {
	for _, f := range fields {
		m = append(m, f...)
	}
	return m
}

func varint(num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), v)
}

func fixed32(num protowire.Number, v uint32) []byte {
	return protowire.AppendFixed32(protowire.AppendTag(nil, num, protowire.Fixed32Type), v)
}

func fixed64(num protowire.Number, v uint64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(nil, num, protowire.Fixed64Type), v)
}

func text(num protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, num, protowire.BytesType), v)
}

func sub(num protowire.Number, fields ...[]byte) []byte { return text(num, string(message(fields...))) }

func group(num protowire.Number, fields ...[]byte) []byte {
	b := protowire.AppendTag(nil, num, protowire.StartGroupType)
	return protowire.AppendTag(append(b, message(fields...)...), num, protowire.EndGroupType)
}

func packed(num protowire.Number, vs ...uint64) []byte {
	var list []byte
	for _, v := range vs {
		list = protowire.AppendVarint(list, v)
	}
	return text(num, string(list))
}

func TestCondition_Met(t *testing.T) {
	minus := func(n int64) uint64 { return uint64(-n) }
	for name, c := range map[string]struct {
		path    string
		want    any
		message []byte
		met     bool
	}{
		"varint":                            {"7", 2, varint(7, 2), true},
		"another varint":                    {"7", 2, varint(7, 3), false},
		"another field":                     {"7", 2, varint(6, 2), false},
		"int64 below 0":                     {"7", -5, varint(7, minus(5)), true},
		"largest uint64":                    {"7", uint64(math.MaxUint64), varint(7, math.MaxUint64), true},
		"fixed32":                           {"7", 2, fixed32(7, 2), true},
		"sfixed32 below 0":                  {"7", -2, fixed32(7, math.MaxUint32-1), true},
		"fixed32 over int32":                {"7", math.MaxUint32, fixed32(7, math.MaxUint32), true},
		"fixed64":                           {"7", 2, fixed64(7, 2), true},
		"sfixed64 below 0":                  {"7", -2, fixed64(7, minus(2)), true},
		"text":                              {"7", "gold", text(7, "gold"), true},
		"another text":                      {"7", "gold", text(7, "golden"), false},
		"text for a number":                 {"7", "2", varint(7, 2), false},
		"number for a text":                 {"7", 2, text(7, "2"), false},
		"true":                              {"7", true, varint(7, 1), true},
		"true by any number":                {"7", true, varint(7, 9), true},
		"false":                             {"7", false, varint(7, 0), true},
		"not true":                          {"7", true, varint(7, 0), false},
		"bool for a fixed32":                {"7", true, fixed32(7, 1), false},
		"last of several":                   {"7", 2, message(varint(7, 1), varint(6, 3), varint(7, 2)), true},
		"not the first of several":          {"7", 1, message(varint(7, 1), varint(7, 2)), false},
		"last of a packed list":             {"7", 300, packed(7, 1, 300), true},
		"not the first of a packed list":    {"7", 1, packed(7, 1, 300), false},
		"last of packed and unpacked":       {"7", 4, message(packed(7, 1, 300), varint(7, 4)), true},
		"empty packed list":                 {"7", 0, packed(7), true},
		"missing number":                    {"7", 0, nil, true},
		"missing number, another wanted":    {"7", 1, nil, false},
		"missing text":                      {"7", "", nil, true},
		"missing bool":                      {"7", false, nil, true},
		"missing bool, true wanted":         {"7", true, nil, false},
		"nested":                            {"3.1", 9, sub(3, varint(1, 9)), true},
		"nested three deep":                 {"3.1.2", "x", sub(3, sub(1, text(2, "x"))), true},
		"nested, last of several":           {"3.1", 9, message(sub(3, varint(1, 8)), sub(3, varint(1, 9))), true},
		"nested, merged":                    {"3.1", 9, message(sub(3, varint(1, 9)), sub(3, varint(2, 1))), true},
		"nested, missing inside":            {"3.1", 0, sub(3, varint(2, 1)), true},
		"nested, missing outside":           {"3.1", 0, varint(2, 1), true},
		"nested in a group":                 {"3.1", 9, group(3, varint(1, 9)), true},
		"path through a number":             {"3.1", 0, varint(3, 9), true},
		"path to a group":                   {"3", 0, group(3, varint(1, 9)), true},
		"cut":                               {"7", 2, append(varint(7, 2), 0x0a, 5, 'x'), false},
		"cut, default wanted":               {"7", 0, []byte{0x0a}, false},
		"malformed inside":                  {"3.1", 0, text(3, "\xff\xff"), false},
		"text where the path leads through": {"3.1", 0, text(3, "plain text"), false},
		"field number 0":                    {"7", 0, []byte{0, 1}, false},
		"end of a group without its start":  {"7", 0, []byte{0x3c}, false},
		"wire type 7":                       {"7", 0, []byte{0x3f, 1}, false},
		"largest field number":              {"536870911", 1, varint(536870911, 1), true},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Parse(c.path)
			require.NoError(t, err)
			require.Equal(t, c.path, p.String())
			require.Equal(t, c.met, Equals(p, c.want).Met(c.message))
		})
	}
}

func TestParse_RefusesWhatLeadsNowhere(t *testing.T) {
	for _, s := range []string{"", ".", "0", "1.", ".1", "1..2", "a", "-1", "+1", "01", "1 ", "536870912", "99999999999999999999", "1.2.x"} {
		_, err := Parse(s)
		require.ErrorContains(t, err, "want field numbers of 1 to 536870911", s)
	}
	deep := "1"
	for range 40 {
		deep += ".1"
	}
	_, err := Parse(deep)
	require.ErrorContains(t, err, "want at most 32 field numbers")
}

func TestCondition_Apart(t *testing.T) {
	for _, c := range []struct {
		path1 string
		want1 any
		path2 string
		want2 any
		apart bool
	}{
		{"7", 1, "7", 2, true},
		{"7", 1, "7", 1, false},
		{"7", 1, "6", 2, false},
		{"7", "a", "7", "b", true},
		{"7", "a", "7", "a", false},
		{"7", "", "7", 0, false}, // a missing field meets both
		{"7", true, "7", false, true},
		{"7", true, "7", 1, false},
		{"7", true, "7", 0, true},
		{"7", false, "7", 0, false},
		{"7", -1, "7", uint64(math.MaxUint64), false},
		{"7", -1, "7", math.MaxUint32, false}, // a fixed32
		{"7", -1, "7", -2, true},
		{"7", true, "7", uint64(math.MaxUint64), false},
	} {
		p1, err := Parse(c.path1)
		require.NoError(t, err)
		p2, err := Parse(c.path2)
		require.NoError(t, err)
		a, b := Equals(p1, c.want1), Equals(p2, c.want2)
		require.Equal(t, c.apart, a.Apart(b), "%v", c)
		require.Equal(t, c.apart, b.Apart(a), "%v", c)
	}
}

func TestCondition_DoesNotAllocate(t *testing.T) {
	p, err := Parse("3.1")
	require.NoError(t, err)
	m := message(sub(3, varint(1, 9)), text(1, "x"))
	for _, want := range []any{9, "x", true} {
		c := Equals(p, want)
		require.Zero(t, testing.AllocsPerRun(100, func() { c.Met(m) }))
	}
}

// What a path finds is what decoding leaves of the field.
func FuzzLast(f *testing.F) {
	f.Add(message(text(1, "a"), varint(4, 1)), "4")
	f.Add(sub(6, sub(1, fixed64(2, 1))), "6.1.2")
	f.Add([]byte{0x3c}, "7")
	f.Add(group(3, varint(1, 9)), "3.1")
	f.Fuzz(func(t *testing.T, m []byte, path string) {
		p, err := Parse(path)
		if err != nil {
			return
		}
		v, err := p.Last(m)
		if err != nil {
			require.Zero(t, v)
			return
		}
		for _, want := range []any{0, "", false, 1, "x", true, uint64(math.MaxUint64)} {
			Equals(p, want).equals(v)
		}
		var decoded structpb.Value // string_value = 3
		if path == "3" && proto.Unmarshal(m, &decoded) == nil && len(decoded.ProtoReflect().GetUnknown()) == 0 {
			if s, ok := decoded.Kind.(*structpb.Value_StringValue); ok {
				require.Equal(t, s.StringValue, string(v.Bytes))
			}
		}
	})
}
