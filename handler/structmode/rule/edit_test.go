package rule

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// edits are changes of a request, as rules make them.
var edits = []struct {
	name, rule, before, after string
	same                      bool // the rule changes nothing
}{
	// set
	{name: "string", rule: `set, fields: {name: '"b"'}`, before: `{"name": "a"}`, after: `{"name": "b"}`},
	{name: "same string", rule: `set, fields: {name: '"a"'}`, before: `{"name": "a"}`, after: `{"name": "a"}`, same: true},
	{name: "zero without presence", rule: `set, fields: {name: '""', amount: '0'}`, before: `{}`, after: `{}`, same: true},
	{name: "zero with presence", rule: `set, fields: {maybe: '0'}`, before: `{}`, after: `{"maybe": 0}`},
	{name: "ints", rule: `set, fields: {amount: '7', i32: '-7', u32: '7', u64: '7u', f32: '1.5', f64: '2', flag: 'true'}`, before: `{}`,
		after: `{"amount": "7", "i32": -7, "u32": 7, "u64": "7", "f32": 1.5, "f64": 2, "flag": true}`},
	{name: "uint to int", rule: `set, fields: {amount: 'message.u64', i32: '5u'}`, before: `{"u64": "9"}`, after: `{"u64": "9", "amount": "9", "i32": 5}`},
	{name: "bytes", rule: `set, fields: {blob: 'b"abc"'}`, before: `{}`, after: `{"blob": "YWJj"}`},
	{name: "enum by number", rule: `set, fields: {status: '2'}`, before: `{}`, after: `{"status": "SENT"}`},
	{name: "enum by name", rule: `set, fields: {status: '"PAID"'}`, before: `{}`, after: `{"status": "PAID"}`},
	{name: "enum by constant", rule: `set, fields: {status: 'shop.Status.SENT'}`, before: `{}`, after: `{"status": "SENT"}`},
	{name: "open enum", rule: `set, fields: {status: '77'}`, before: `{}`, after: `{"status": 77}`},
	{name: "nested makes the message", rule: `set, fields: {"card.audit.by": '"x"'}`, before: `{}`, after: `{"card": {"audit": {"by": "x"}}}`},
	{name: "nested keeps the rest", rule: `set, fields: {"audit.by": '"x"'}`, before: `{"audit": {"notes": ["n"]}}`, after: `{"audit": {"by": "x", "notes": ["n"]}}`},
	{name: "nested zero still makes the message", rule: `set, fields: {"audit.by": '""'}`, before: `{}`, after: `{"audit": {}}`},
	{name: "oneof member clears the other", rule: `set, fields: {cash: '"c"'}`, before: `{"card": {"number": "1"}}`, after: `{"cash": "c"}`},
	{name: "nested oneof member clears the other", rule: `set, fields: {"card.number": '"1"'}`, before: `{"cash": "c"}`, after: `{"card": {"number": "1"}}`},
	{name: "each element", rule: `set, fields: {"cards[].month": '12'}`, before: `{"cards": [{"month": 1}, {"number": "n"}]}`, after: `{"cards": [{"month": 12}, {"month": 12, "number": "n"}]}`},
	{name: "each of none", rule: `set, fields: {"cards[].month": '12', "tags[]": '"x"', "labels[]": '"y"'}`, before: `{}`, after: `{}`, same: true},
	{name: "each scalar", rule: `set, fields: {"tags[]": '"x"', "numbers[]": '3'}`, before: `{"tags": ["a", "b"], "numbers": [1]}`, after: `{"tags": ["x", "x"], "numbers": [3]}`},
	{name: "each message", rule: `set, fields: {"cards[]": 'message.card'}`, before: `{"cards": [{}, {}], "card": {"month": 3}}`, after: `{"cards": [{"month": 3}, {"month": 3}], "card": {"month": 3}}`},
	{name: "list", rule: `set, fields: {tags: '["a", message.name]'}`, before: `{"name": "n", "tags": ["z"]}`, after: `{"name": "n", "tags": ["a", "n"]}`},
	{name: "same list", rule: `set, fields: {tags: '["a"]'}`, before: `{"tags": ["a"]}`, after: `{"tags": ["a"]}`, same: true},
	{name: "empty list", rule: `set, fields: {tags: '[]'}`, before: `{"tags": ["z"]}`, after: `{}`},
	{name: "list of messages", rule: `set, fields: {cards: 'message.cards.filter(c, c.month > 1)'}`, before: `{"cards": [{"month": 1}, {"month": 2}]}`, after: `{"cards": [{"month": 2}]}`},
	{name: "list of enums", rule: `set, fields: {history: '[1, 2]'}`, before: `{}`, after: `{"history": ["PAID", "SENT"]}`},
	{name: "list in each element", rule: `set, fields: {"cards[].tags": '["a"]'}`, before: `{"cards": [{}, {}]}`, after: `{"cards": [{"tags": ["a"]}, {"tags": ["a"]}]}`},
	{name: "map", rule: `set, fields: {labels: '{"a": message.name}'}`, before: `{"name": "n", "labels": {"z": "z"}}`, after: `{"name": "n", "labels": {"a": "n"}}`},
	{name: "map of ints", rule: `set, fields: {counts: '{5: 6}'}`, before: `{}`, after: `{"counts": {"5": "6"}}`},
	{name: "value of a map", rule: `set, fields: {'labels["env"]': '"prod"'}`, before: `{"labels": {"a": "b"}}`, after: `{"labels": {"a": "b", "env": "prod"}}`},
	{name: "same value of a map", rule: `set, fields: {'labels["env"]': '"prod"'}`, before: `{"labels": {"env": "prod"}}`, after: `{"labels": {"env": "prod"}}`, same: true},
	{name: "value of a map of ints", rule: `set, fields: {'counts["-5"]': '1'}`, before: `{}`, after: `{"counts": {"-5": "1"}}`},
	{name: "each value of a map", rule: `set, fields: {"labels[]": '"x"'}`, before: `{"labels": {"a": "b", "c": "d"}}`, after: `{"labels": {"a": "x", "c": "x"}}`},
	{name: "field of a message in a map", rule: `set, fields: {'cards_by_name["a"].month': '1'}`, before: `{}`, after: `{"cards_by_name": {"a": {"month": 1}}}`},
	{name: "field of each message in a map", rule: `set, fields: {"cards_by_name[].month": '1'}`, before: `{"cards_by_name": {"a": {}, "b": {"month": 2}}}`, after: `{"cards_by_name": {"a": {"month": 1}, "b": {"month": 1}}}`},
	{name: "message", rule: `set, fields: {audit: 'message.card.audit'}`, before: `{"card": {"audit": {"by": "b"}}}`, after: `{"card": {"audit": {"by": "b"}}, "audit": {"by": "b"}}`},
	{name: "message that is not there clears", rule: `set, fields: {audit: 'message.card.audit'}`, before: `{"audit": {"by": "b"}}`, after: `{}`},
	{name: "new message", rule: `set, fields: {card: 'shop.Card{number: "9", tags: ["t"], audit: shop.Audit{by: "b", at: timestamp("2020-01-01T00:00:00Z")}}'}`, before: `{"cash": "c"}`,
		after: `{"card": {"number": "9", "tags": ["t"], "audit": {"by": "b", "at": "2020-01-01T00:00:00Z"}}}`},
	{name: "null clears", rule: `set, fields: {name: 'null', tags: 'null', audit: 'null', labels: 'null', 'cards_by_name["a"]': 'null'}`,
		before: `{"name": "n", "tags": ["t"], "audit": {}, "labels": {"a": "b"}, "cards_by_name": {"a": {}, "b": {}}}`, after: `{"cards_by_name": {"b": {}}}`},
	{name: "null makes no messages", rule: `set, fields: {"audit.by": 'null'}`, before: `{}`, after: `{}`, same: true},
	{name: "timestamp and duration", rule: `set, fields: {"audit.at": 'timestamp("2020-01-01T00:00:00.5Z")', wait: 'duration("-1.5s")'}`, before: `{}`, after: `{"audit": {"at": "2020-01-01T00:00:00.500Z"}, "wait": "-1.500s"}`},
	{name: "wrappers", rule: `set, fields: {note: '"n"', floor: '3', agreed: 'false'}`, before: `{}`, after: `{"note": "n", "floor": 3, "agreed": false}`},
	{name: "wrapper from wrapper", rule: `set, fields: {note: 'message.note', i32: 'message.floor'}`, before: `{"floor": 3}`, after: `{"floor": 3, "i32": 3}`},
	{name: "struct", rule: `set, fields: {attributes: '{"a": 1, "b": [true, null, "s"], "c": {"d": duration("1s")}}'}`, before: `{}`, after: `{"attributes": {"a": 1, "b": [true, null, "s"], "c": {"d": "1s"}}}`},
	{name: "value", rule: `set, fields: {value: 'message.amount', list: '[1, {"a": "b"}]'}`, before: `{"amount": 4}`, after: `{"amount": "4", "value": 4, "list": [1, {"a": "b"}]}`},
	{name: "value null", rule: `set, fields: {value: 'null'}`, before: `{}`, after: `{"value": null}`},
	{name: "struct from struct", rule: `set, fields: {value: 'message.attributes["x"]'}`, before: `{"attributes": {"x": {"y": [1]}}}`, after: `{"attributes": {"x": {"y": [1]}}, "value": {"y": [1]}}`},
	{name: "any", rule: `set, fields: {extra: 'shop.User{name: "u"}'}`, before: `{}`, after: `{"extra": {"@type": "type.googleapis.com/shop.User", "name": "u"}}`},
	{name: "out of an any", rule: `set, fields: {user: 'message.extra'}`, before: `{"extra": {"@type": "type.googleapis.com/shop.User", "name": "u"}}`,
		after: `{"extra": {"@type": "type.googleapis.com/shop.User", "name": "u"}, "user": {"name": "u"}}`},
	{name: "optional", rule: `set, fields: {name: 'message.labels[?"env"].orValue("none")'}`, before: `{}`, after: `{"name": "none"}`},
	{name: "text functions", rule: `set, fields: {name: 'message.name.trim().upperAscii().replace("A", "B").substring(0, 2)', tags: 'message.tier.split(",")', tier: 'message.tags.join("-")'}`,
		before: `{"name": " aac ", "tier": "x,y", "tags": ["p", "q"]}`, after: `{"name": "BB", "tags": ["x", "y"], "tier": "p-q"}`},

	// clear
	{name: "clear", rule: `clear, fields: [name, audit, tags, labels, card, status]`, before: `{"name": "n", "audit": {}, "tags": ["a"], "labels": {"a": "b"}, "card": {}, "status": "PAID", "tier": "t"}`, after: `{"tier": "t"}`},
	{name: "clear nothing", rule: `clear, fields: [name, "audit.by", "cards[].number", 'labels["a"]', 'cards_by_name["a"].month', "tags[]"]`, before: `{}`, after: `{}`, same: true},
	{name: "clear nested makes nothing", rule: `clear, fields: ["card.audit.by"]`, before: `{"card": {}}`, after: `{"card": {}}`, same: true},
	{name: "clear nested", rule: `clear, fields: ["card.audit.by"]`, before: `{"card": {"audit": {"by": "b"}}}`, after: `{"card": {"audit": {}}}`},
	{name: "clear in each", rule: `clear, fields: ["cards[].number", "cards_by_name[].number"]`, before: `{"cards": [{"number": "1", "month": 1}], "cards_by_name": {"a": {"number": "1"}}}`, after: `{"cards": [{"month": 1}], "cards_by_name": {"a": {}}}`},
	{name: "clear one of a map", rule: `clear, fields: ['labels["a"]']`, before: `{"labels": {"a": "b", "c": "d"}}`, after: `{"labels": {"c": "d"}}`},
	{name: "clear all elements", rule: `clear, fields: ["tags[]", "labels[]"]`, before: `{"tags": ["a"], "labels": {"a": "b"}}`, after: `{}`},

	// redact
	{name: "redact strings", rule: `redact, fields: [name, "user.email", "user.nick", cash]`, before: `{"name": "n", "user": {"email": "e", "nick": ""}, "cash": "c"}`,
		after: `{"name": "[REDACTED]", "user": {"email": "[REDACTED]", "nick": "[REDACTED]"}, "cash": "[REDACTED]"}`},
	{name: "redact what is not there", rule: `redact, fields: [name, "user.email", "user.nick", "cards[].number", 'labels["a"]', tags]`, before: `{"user": {}}`, after: `{"user": {}}`, same: true},
	{name: "redact twice", rule: `redact, fields: [name, name]`, before: `{"name": "[REDACTED]"}`, after: `{"name": "[REDACTED]"}`, same: true},
	{name: "redact bytes", rule: `redact, fields: [blob, "cards[].cvc", blobs]`, before: `{"blob": "AAAA", "cards": [{"cvc": "AAAA"}], "blobs": ["AAAA", ""]}`, after: `{"cards": [{}], "blobs": ["", ""]}`},
	{name: "redact the rest", rule: `redact, fields: [amount, flag, status, audit, maybe, numbers, note, "cards[]"]`, before: `{"amount": 1, "flag": true, "status": 1, "audit": {}, "maybe": 1, "numbers": [1], "note": "n", "cards": [{}]}`, after: `{}`},
	{name: "redact each string", rule: `redact, fields: [tags, "audit.notes[]", labels]`, before: `{"tags": ["a", "b"], "audit": {"notes": ["n"]}, "labels": {"a": "b"}}`,
		after: `{"tags": ["[REDACTED]", "[REDACTED]"], "audit": {"notes": ["[REDACTED]"]}, "labels": {"a": "[REDACTED]"}}`},
	{name: "redact one of a map", rule: `redact, fields: ['labels["a"]', 'counts["1"]']`, before: `{"labels": {"a": "b", "c": "d"}, "counts": {"1": 2, "3": 4}}`, after: `{"labels": {"a": "[REDACTED]", "c": "d"}, "counts": {"3": "4"}}`},
}

func TestRules_ChangeMessagesAsTheyShould(t *testing.T) {
	for _, c := range edits {
		t.Run(c.name, func(t *testing.T) {
			out, after, err := apply(t, "- {on: request, action: "+c.rule+"}", c.before, 0)
			require.NoError(t, err)
			require.JSONEq(t, c.after, after)
			require.Equal(t, !c.same, out.Changed, "changed")
		})
	}
}

func TestSet_GivesEachPlaceAMessageOfItsOwn(t *testing.T) {
	p := programOf(t, `- {on: request, action: set, fields: {"cards[]": 'message.card', "cards_by_name[].audit": 'message.audit'}}
- {on: request, action: set, fields: {"card.month": '9'}}`)
	r := p.Method(create).Request
	m := messageOf(t, p, r, `{"card": {"month": 1}, "cards": [{}, {}], "audit": {}, "cards_by_name": {"a": {}, "b": {}}}`)
	var out Result
	require.NoError(t, r.Apply(&Call{}, m, Frame{}, &out))
	cards := m.Get(m.Descriptor().Fields().ByName("cards")).List()
	month := cards.Get(0).Message().Descriptor().Fields().ByName("month")
	cards.Get(0).Message().Set(month, protoreflect.ValueOfInt32(5))
	require.Equal(t, int64(1), cards.Get(1).Message().Get(month).Int())
	byName := m.Get(m.Descriptor().Fields().ByName("cards_by_name")).Map()
	audit := month.ContainingMessage().Fields().ByName("audit")
	a := byName.Get(protoreflect.ValueOfString("a").MapKey()).Message().Mutable(audit).Message()
	a.Set(a.Descriptor().Fields().ByName("by"), protoreflect.ValueOfString("x"))
	require.JSONEq(t, `{"card": {"month": 9}, "cards": [{"month": 5}, {"month": 1}], "audit": {},
		"cards_by_name": {"a": {"audit": {"by": "x"}}, "b": {"audit": {}}}}`, jsonOf(t, p, m))
}

func TestApply_KeepsUnknownFieldsAndAnys(t *testing.T) {
	p := programOf(t, `- {on: request, when: 'message.user.name != "x"', action: set, fields: {tier: '"t"', "user.email": '"e"'}}`)
	r := p.Method(create).Request
	var user []byte
	user = protowire.AppendTag(user, 2, protowire.BytesType)
	user = protowire.AppendString(user, "u")
	user = protowire.AppendTag(user, 500, protowire.VarintType)
	user = protowire.AppendVarint(user, 7)
	var anyValue []byte
	anyValue = protowire.AppendTag(anyValue, 1, protowire.BytesType)
	anyValue = protowire.AppendString(anyValue, "type.googleapis.com/not.In.The.Schema")
	anyValue = protowire.AppendTag(anyValue, 2, protowire.BytesType)
	anyValue = protowire.AppendBytes(anyValue, []byte{0xff, 0xff})
	var data []byte
	data = protowire.AppendTag(data, 6, protowire.BytesType)
	data = protowire.AppendBytes(data, user)
	data = protowire.AppendTag(data, 17, protowire.BytesType)
	data = protowire.AppendBytes(data, anyValue)
	data = protowire.AppendTag(data, 600, protowire.BytesType)
	data = protowire.AppendString(data, "unknown")

	m := r.New()
	require.NoError(t, proto.Unmarshal(data, m.Interface()))
	var out Result
	require.NoError(t, r.Apply(&Call{}, m, Frame{}, &out))
	require.True(t, out.Changed)
	encoded, err := proto.Marshal(m.Interface())
	require.NoError(t, err)
	again := r.New()
	require.NoError(t, proto.Unmarshal(encoded, again.Interface()))

	fields := again.Descriptor().Fields()
	require.Equal(t, "t", again.Get(fields.ByName("tier")).String())
	require.Equal(t, data[len(data)-len("unknown")-3:], []byte(again.GetUnknown()))
	got := again.Get(fields.ByName("user")).Message()
	require.Equal(t, []byte(protowire.AppendVarint(protowire.AppendTag(nil, 500, protowire.VarintType), 7)), []byte(got.GetUnknown()))
	extra := again.Get(fields.ByName("extra")).Message()
	require.Equal(t, []byte{0xff, 0xff}, extra.Get(extra.Descriptor().Fields().ByName("value")).Bytes())
}

const oldProto = `
syntax = "proto2";
package old;
enum Level { LOW = 1; HIGH = 2; }
message Item {
  required string id = 1;
  required int32 size = 2;
  optional string name = 3 [default = "unnamed"];
  optional int32 count = 4;
  optional Level level = 5;
  repeated group Part = 6 { optional string code = 7; }
  extensions 100 to 200;
}
extend Item { optional string more = 100; }
service Items { rpc Put(Item) returns (Item); }
`

func oldProgram(t *testing.T, rules string) (*Compiled, error) {
	r := routeOf(t, rules)
	r.Match[0].Method = "/old.Items/Put"
	return Compile(r, filesOf(t, map[string]string{"old.proto": oldProto}))
}

func TestRules_KnowThePresenceOfProto2(t *testing.T) {
	for _, c := range []struct {
		name, rule, before, after string
		changed                   bool
	}{
		{"zero is there", `set, fields: {count: '0', name: '"unnamed"'}`, `{}`, `{"count": 0, "name": "unnamed"}`, true},
		{"default is read", `set, fields: {id: 'message.name'}`, `{}`, `{"id": "unnamed"}`, true},
		{"has sees presence", `set, fields: {id: 'has(message.count) ? "yes" : "no"'}`, `{"count": 0}`, `{"count": 0, "id": "yes"}`, true},
		{"clear zero", `clear, fields: [count]`, `{"count": 0}`, `{}`, true},
		{"redact empty", `redact, fields: [name, id]`, `{"name": "", "id": "x"}`, `{"name": "[REDACTED]", "id": "[REDACTED]"}`, true},
		{"closed enum", `set, fields: {level: '2'}`, `{}`, `{"level": "HIGH"}`, true},
		{"group", `redact, fields: ["part[].code"]`, `{"part": [{"code": "x"}]}`, `{"part": [{"code": "[REDACTED]"}]}`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := oldProgram(t, "- {on: request, action: "+c.rule+"}")
			require.NoError(t, err)
			r := p.Method("/old.Items/Put").Request
			m := r.New()
			require.NoError(t, unmarshalPartial(p, c.before, m))
			var out Result
			require.NoError(t, r.Apply(&Call{}, m, Frame{}, &out))
			want := r.New()
			require.NoError(t, unmarshalPartial(p, c.after, want))
			require.True(t, proto.Equal(want.Interface(), m.Interface()), "got %v, want %v", m.Interface(), want.Interface())
			require.Equal(t, c.changed, out.Changed)
		})
	}
}

func TestCompile_RefusesToTakeRequiredFieldsAway(t *testing.T) {
	_, err := oldProgram(t, `- {on: request, action: clear, fields: [id]}
- {on: response, action: redact, fields: [size]}
- {on: request, action: set, fields: {id: 'null', more: '"x"', level: '3'}}
- {on: request, action: set, fields: {"(old.more)": '"x"'}}`)
	require.EqualError(t, err, `struct.rules[3].fields["(old.more)"]: "(old.more)", want no extension: those cannot be addressed
struct.rules[0].fields[0]: old.Item.id is required, want a field that may be absent (/old.Items/Put)
struct.rules[2].fields["id"]: null, want a value: the field is required (/old.Items/Put)
struct.rules[2].fields["level"]: 3, want a value of old.Level (/old.Items/Put)
struct.rules[2].fields["more"]: old.Item has no field "more" (/old.Items/Put)
struct.rules[1].fields[0]: old.Item.size is required, want a field that may be absent (/old.Items/Put)`)
}
