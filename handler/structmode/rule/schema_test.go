package rule

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// holds reports whether a condition holds of a request, given as JSON.
func holds(t *testing.T, when, request string) (bool, error) {
	t.Helper()
	out, _, err := apply(t, "- {on: request, when: '"+when+"', action: reject}", request, 0)
	return out.Verdict == Reject, err
}

func TestConditions_ReadMessages(t *testing.T) {
	for _, c := range []struct {
		when, request string
	}{
		{`message.name == ""`, `{}`},
		{`!has(message.user) && message.user.name == "" && message.user.email.size() == 0`, `{}`},
		{`has(message.user) && !has(message.user.nick)`, `{"user": {}}`},
		{`has(message.user.nick) && message.user.nick == ""`, `{"user": {"nick": ""}}`},
		{`message.labels["a"] == "b" && "a" in message.labels && size(message.labels) == 1`, `{"labels": {"a": "b"}}`},
		{`message.cards_by_name["a"].month == 3`, `{"cards_by_name": {"a": {"month": 3}}}`},
		{`message.counts[-5] == 6 && !(7 in message.counts)`, `{"counts": {"-5": "6"}}`},
		{`message.cards[1].number == "2" && message.cards.size() == 2`, `{"cards": [{}, {"number": "2"}]}`},
		{`message.status == shop.Status.PAID && message.status == 1 && message.history == [2, 1]`, `{"status": 1, "history": [2, 1]}`},
		{`message.note == null && message.floor == 3 && message.agreed`, `{"floor": 3, "agreed": true}`},
		{`message.audit.at > timestamp("2020-01-01T00:00:00Z") && message.audit.at.getFullYear() == 2021`, `{"audit": {"at": "2021-05-05T00:00:00Z"}}`},
		{`message.wait < duration("2s") && message.wait.getMilliseconds() == 1500`, `{"wait": "1.5s"}`},
		{`message.attributes.a.b[1] == "x" && message.attributes.n == 1.5 && has(message.attributes.z) && message.attributes.z == null`,
			`{"attributes": {"a": {"b": [true, "x"]}, "n": 1.5, "z": null}}`},
		{`message.value.x == "y" && message.list[0] == 1.0`, `{"value": {"x": "y"}, "list": [1]}`},
		{`message.value == null`, `{}`},
		{`message.extra.name == "u" && type(message.extra) == shop.User`, `{"extra": {"@type": "x/shop.User", "name": "u"}}`},
		{`message.extra == shop.User{name: "u"}`, `{"extra": {"@type": "x/shop.User", "name": "u"}}`},
		{`message.extras.exists(e, has(e.month) && e.month == 3)`, `{"extras": [{"@type": "x/shop.Card", "month": 3}]}`},
		{`message.extras[0].at == timestamp(5)`, `{"extras": [{"@type": "x/shop.Audit", "at": "1970-01-01T00:00:05Z"}]}`},
		{`message.extra == 5`, `{"extra": {"@type": "x/google.protobuf.Int32Value", "value": 5}}`},
		{`message.user == message.user && message.card != shop.Card{month: 1}`, `{"user": {"name": "n"}}`},
		{`message.blob == b"abc" && message.f32 == 1.5 && message.u64 == 5u && message.i32 > -2 && message.u32 < 10`, `{"blob": "YWJj", "f32": 1.5, "u64": 5}`},
		{`message.?user.name.orValue("none") == "none"`, `{}`},
		{`message.cash == "" && has(message.card)`, `{"card": {}}`},
		{`method == "/shop.Orders/Create" && peer.startsWith("192.0.2.1:") && now > timestamp(0) && index == 0`, `{}`},
		{`message == shop.Order{name: "n", cards: [shop.Card{}], labels: {"a": "b"}, status: 1, note: "x", wait: duration("1s")}`,
			`{"name": "n", "cards": [{}], "labels": {"a": "b"}, "status": 1, "note": "x", "wait": "1s"}`},
		{`google.protobuf.Int32Value{value: 3} == message.floor`, `{"floor": 3}`},
	} {
		ok, err := holds(t, c.when, c.request)
		require.NoError(t, err, c.when)
		require.True(t, ok, c.when)
	}
}

func TestConditions_LookIntoAnysOfTheSchemaOnly(t *testing.T) {
	p := programOf(t, `- {on: request, when: 'message.extra.name == "x"', action: reject}`)
	r := p.Method(create).Request
	for name, c := range map[string]struct {
		url   string
		value []byte
		want  string
	}{
		"a type of the process": {"x/google.rpc.Status", nil, `struct.rules[0].when: a google.protobuf.Any of type "x/google.rpc.Status", want a type of the schema`},
		"a broken value":        {"x/shop.User", []byte{0xff}, `struct.rules[0].when: a google.protobuf.Any of type "x/shop.User"`},
		"a large value":         {"x/shop.User", make([]byte, maxAnyBytes+1), "struct.rules[0].when: a google.protobuf.Any of 65537 bytes, want at most 65536 to look into it"},
	} {
		t.Run(name, func(t *testing.T) {
			require.NotNil(t, (&status.Status{}).ProtoReflect(), "linked into the process")
			m := r.New()
			extra := m.Mutable(m.Descriptor().Fields().ByName("extra")).Message()
			extra.Set(extra.Descriptor().Fields().ByNumber(1), protoreflect.ValueOfString(c.url))
			extra.Set(extra.Descriptor().Fields().ByNumber(2), protoreflect.ValueOfBytes(c.value))
			var out Result
			require.ErrorContains(t, r.Apply(&Call{}, m, Frame{}, &out), c.want)
		})
	}
}

func TestCompile_KeepsSchemasApart(t *testing.T) {
	const service = `service S { rpc M(Status) returns (Status); }`
	one := filesOf(t, map[string]string{"google/rpc/status.proto": `syntax = "proto3"; package google.rpc; ` +
		`message Status { string first = 1; Status next = 2; } enum Kind { ZERO = 0; ONE = 1; } ` + service})
	two := filesOf(t, map[string]string{"google/rpc/status.proto": `syntax = "proto3"; package google.rpc; ` +
		`message Status { int64 second = 1; Status next = 2; } enum Kind { ZERO = 0; ONE = 7; } ` + service})
	r1 := routeOf(t, `- {on: request, when: 'message.next.first == "x" && google.rpc.Kind.ONE == 1', action: set, fields: {next: 'google.rpc.Status{first: "y"}'}}`)
	r2 := routeOf(t, `- {on: request, when: 'message.next.second == 5 && google.rpc.Kind.ONE == 7', action: set, fields: {next: 'google.rpc.Status{second: 6}'}}`)
	r1.Match[0].Method, r2.Match[0].Method = "*", "*"
	p1, err := Compile(r1, one)
	require.NoError(t, err)
	p2, err := Compile(r2, two)
	require.NoError(t, err)
	_, err = Compile(r1, two)
	require.ErrorContains(t, err, "undefined field 'first'")
	_, err = Compile(r2, one)
	require.ErrorContains(t, err, "undefined field 'second'")

	for _, c := range []struct {
		p             *Compiled
		before, after string
	}{
		{p1, `{"next": {"first": "x"}}`, `{"next": {"first": "y"}}`},
		{p2, `{"next": {"second": "5"}}`, `{"next": {"second": "6"}}`},
	} {
		r := c.p.Method("/google.rpc.S/M").Request
		m := messageOf(t, c.p, r, c.before)
		var out Result
		require.NoError(t, r.Apply(&Call{}, m, Frame{}, &out))
		require.JSONEq(t, c.after, jsonOf(t, c.p, m))
	}
}

func TestConditions_SurviveASchemaWithOtherWellKnownTypes(t *testing.T) {
	files := filesOf(t, map[string]string{"google/protobuf/odd.proto": `syntax = "proto3"; package google.protobuf;
message Timestamp { string seconds = 1; } message Any { int32 type_url = 1; } message StringValue { StringValue value = 1; }
message Struct { int32 fields = 1; } message Value { int32 null_value = 1; } message ListValue { int32 values = 1; }
message All { Timestamp t = 1; Any a = 2; StringValue s = 3; Struct st = 4; Value v = 5; ListValue l = 6; }
service S { rpc M(All) returns (All); }`})
	for _, when := range []string{
		`message.t > timestamp(0)`, `message.a == 1`, `message.s == "x"`, `message.st == {}`, `message.v == 1`, `message.l == []`,
	} {
		r := routeOf(t, "- {on: request, when: '"+when+"', action: reject}")
		r.Match[0].Method = "*"
		p, err := Compile(r, files)
		require.NoError(t, err)
		m := p.Method("/google.protobuf.S/M").Request
		all := messageOf(t, p, m, `{}`)
		for i := range all.Descriptor().Fields().Len() {
			all.Mutable(all.Descriptor().Fields().Get(i))
		}
		var out Result
		err = m.Apply(&Call{}, all, Frame{}, &out)
		var evalErr *EvalError
		require.ErrorAs(t, err, &evalErr, when)
	}
}

func TestDecode_RefusesWhatProtobufPanicsAt(t *testing.T) {
	r := programOf(t, `- {on: request, action: reject}`).Method(create).Request
	var entry []byte
	entry = protowire.AppendTag(entry, 1, protowire.BytesType)
	entry = protowire.AppendString(entry, "key")
	entry = protowire.AppendTag(entry, 1, protowire.VarintType) // the key again, as a number
	entry = protowire.AppendVarint(entry, 1)
	data := protowire.AppendBytes(protowire.AppendTag(nil, 8, protowire.BytesType), entry)
	_, err := r.Decode(data, nil)
	require.ErrorContains(t, err, "an encoding that cannot be decoded: ")
	_, err = r.Decode([]byte{0xff}, nil)
	require.Error(t, err)
}

func TestDecode_TakesMessagesWithoutRequiredFields(t *testing.T) {
	p, err := oldProgram(t, `- {on: request, action: reject}`)
	require.NoError(t, err)
	m, err := p.Method("/old.Items/Put").Request.Decode(nil, nil)
	require.NoError(t, err)
	require.True(t, m.IsValid())
}

// FuzzApply takes requests that a peer may send through rules that look at much of them.
func FuzzApply(f *testing.F) {
	p := programOf(f, `- {on: request, when: 'message.value == 1 || message.attributes.size() > 3', action: reject}
- {on: request, when: 'message.extra.name == "x"', action: reject}
- {on: request, when: 'message.audit.at > now', action: drop}
- {on: request, action: set, fields: {"cards[].audit.at": 'message.audit.at', value: 'message.attributes', tags: 'message.cards.map(c, c.number)'}}
- {on: request, action: redact, fields: ["user.email", "cards[].number", labels, blob]}
- {on: request, action: clear, fields: ["cards_by_name[].audit", 'labels["a"]']}
`)
	r := p.Method(create).Request
	for _, c := range edits {
		if data, err := proto.Marshal(messageOf(f, p, r, c.before).Interface()); err == nil {
			f.Add(data)
		}
	}
	f.Add(protowire.AppendVarint(protowire.AppendTag(nil, 999, protowire.VarintType), 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := r.Decode(data, nil)
		if err != nil {
			return
		}
		unknown := string(m.GetUnknown())
		var out Result
		if err := r.Apply(&Call{}, m, Frame{}, &out); err != nil {
			return
		}
		if string(m.GetUnknown()) != unknown {
			t.Fatal("the unknown fields are not what they were")
		}
		if _, err := proto.Marshal(m.Interface()); err != nil && out.Verdict == Pass {
			t.Fatalf("encode: %v", err)
		}
	})
}
