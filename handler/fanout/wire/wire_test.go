package wire

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/framegate/framegate/resolver/spec"
)

var defaults = Fields((*spec.Aggregate)(nil).Fields())

func bytesOf(t *testing.T, text string) []byte {
	b, err := hex.DecodeString(text)
	require.NoError(t, err)
	return b
}

func TestJoin_AppendsWhoAnElementIsOf(t *testing.T) {
	fields := defaults
	fields.Node = 99
	got, err := fields.Join(nil, bytesOf(t, "0a050a03626172"), fields.Origin(Origin{Node: "node_1"}))
	require.NoError(t, err)
	require.Equal(t, "0a110a036261729a06099a06066e6f64655f31", hex.EncodeToString(got))
}

// element is an element of a reply that has a text in field 1.
func element(text string) []byte { return appendBytes(nil, 1, appendBytes(nil, 1, []byte(text))) }

func TestJoin_KeepsEachElement(t *testing.T) {
	one, two := defaults.Origin(Origin{Node: "a"}), defaults.Origin(Origin{Node: "b", Error: "gone"})
	got, err := defaults.Join([]byte{}, append(element("x"), element("")...), one)
	require.NoError(t, err)
	got, err = defaults.Join(got, nil, two)
	require.NoError(t, err)
	got = defaults.Alone(got, one)
	got = defaults.Alone(got, nil)
	texts, origins := split(t, defaults, got)
	require.Equal(t, []string{"x", "", "-", "-"}, texts)
	require.Equal(t, [][]byte{one, one, two, one}, origins)
}

// split returns the texts of elements, "-" for one that has none, and what comes behind them.
func split(t *testing.T, f Fields, reply []byte) (texts []string, origins [][]byte) {
	for len(reply) > 0 {
		num, typ, n := protowire.ConsumeTag(reply)
		require.Equal(t, protowire.Number(f.Messages), num)
		require.Equal(t, protowire.BytesType, typ)
		e, k := protowire.ConsumeBytes(reply[n:])
		require.GreaterOrEqual(t, k, 0)
		reply = reply[n+k:]
		text := "-"
		if num, _, n := protowire.ConsumeTag(e); num == 1 {
			v, k := protowire.ConsumeBytes(e[n:])
			text, e = string(v), e[n+k:]
		}
		texts, origins = append(texts, text), append(origins, e)
	}
	return texts, origins
}

func TestJoin_RefusesAnotherShape(t *testing.T) {
	for name, reply := range map[string][]byte{
		"another field":         appendBytes(element("x"), 2, []byte("y")),
		"a number":              protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 7),
		"cut":                   element("x")[:3],
		"no tag":                {0xff},
		"a length beyond it":    {0x0a, 0x7f, 1},
		"field 0":               {0x02, 0x00},
		"a group":               {0x0b, 0x0c},
		"an endless length":     {0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"a text of other bytes": []byte("hello"),
		"a cut element":         appendBytes(nil, 1, []byte{0x0a, 0x7f, 1}),
		"an open group within":  appendBytes(nil, 1, []byte{0x0b}),
		"field 0 within":        appendBytes(nil, 1, []byte{0x02, 0x00}),
		"an endless number":     appendBytes(nil, 1, bytes.Repeat([]byte{0x80}, 11)),
	} {
		before := element("before")
		got, err := defaults.Join(before, reply, []byte("origin"))
		require.ErrorIs(t, err, ErrShape, name)
		require.Equal(t, element("before"), got, name)
	}
}

// Readers of proto3 refuse texts that are not UTF-8.
func TestTexts_AreUTF8(t *testing.T) {
	for _, b := range [][]byte{
		defaults.Origin(Origin{Node: "a\xff", Error: "b\xffc"}),
		AppendResult(nil, Result{Node: "a\xff", Message: "b\xffc", Headers: map[string][]string{"n\xff": {"v\xff"}}, Payload: []byte("p")}),
	} {
		require.NoError(t, Whole(b))
		require.Contains(t, string(b), "a\uFFFD")
		require.Contains(t, string(b), "b\uFFFDc")
	}
}

func TestOrigin_LeavesFieldsOut(t *testing.T) {
	o := Origin{Node: "n", Error: "e", Status: []byte{8, 5}}
	inner := func(f Fields) []byte {
		b := f.Origin(o)
		_, _, n := protowire.ConsumeTag(b)
		v, k := protowire.ConsumeBytes(b[n:])
		require.Equal(t, len(b), n+k)
		return v
	}
	require.Equal(t, appendBytes(appendBytes(nil, 1, []byte("n")), 2, []byte("e")), inner(defaults))
	all := defaults
	all.Status = 3
	require.Equal(t, appendBytes(inner(defaults), 3, []byte{8, 5}), inner(all))
	none := defaults
	none.Metadata = 0
	require.Empty(t, none.Origin(o))
	joined, err := none.Join(nil, nil, none.Origin(o))
	require.NoError(t, err)
	require.Empty(t, joined)
}

// Whatever a reply is, what comes out parses, and has every payload byte.
func FuzzJoin(f *testing.F) {
	f.Add(element("x"), "node", 1, 99)
	f.Add([]byte{}, "node", 1, 99)
	f.Add([]byte{0x0a, 0x80, 0x80, 0x80, 0x80, 0x08}, "", 536870911, 0)
	f.Fuzz(func(t *testing.T, reply []byte, node string, messages, metadata int) {
		fields := Fields{Messages: messages, Metadata: metadata, Node: 1, Error: 2}
		if !protowire.Number(messages).IsValid() || messages > int(protowire.MaxValidNumber) || metadata != 0 && !protowire.Number(metadata).IsValid() || metadata > int(protowire.MaxValidNumber) {
			return
		}
		origin := fields.Origin(Origin{Node: node})
		got, err := fields.Join(nil, reply, origin)
		if err != nil {
			require.ErrorIs(t, err, ErrShape)
			require.Empty(t, got)
			return
		}
		var kept []byte
		for rest := got; len(rest) > 0; {
			num, typ, n := protowire.ConsumeTag(rest)
			require.Equal(t, protowire.Number(messages), num)
			require.Equal(t, protowire.BytesType, typ)
			e, k := protowire.ConsumeBytes(rest[n:])
			require.GreaterOrEqual(t, k, 0)
			require.True(t, bytes.HasSuffix(e, origin))
			require.NoError(t, Whole(e))
			if e = e[:len(e)-len(origin)]; len(reply) > 0 {
				kept = appendBytes(kept, messages, e)
			}
			rest = rest[n+k:]
		}
		if len(kept) == len(reply) { // lengths and tags may be encoded in more bytes than they need
			require.True(t, bytes.Equal(reply, kept))
		}
		require.LessOrEqual(t, len(kept), len(reply))
	})
}
