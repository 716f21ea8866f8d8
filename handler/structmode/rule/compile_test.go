package rule

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/resolver/spec"
)

// both is what an error says of a mistake that both methods of shop.Orders have.
const both = " (/shop.Orders/Create and 1 more)"

// mistakesOfDocuments are rules with what Check and Compile say of them.
var mistakesOfDocuments = []struct{ rule, want string }{
	{`{action: reject}`, `struct.rules[0].on: "", want request or response`},
	{`{on: both, action: reject}`, `struct.rules[0].on: "both", want request or response`},
	{`{on: request}`, `struct.rules[0].action: "", want reject, drop, set, clear, redact, route or header`},
	{`{on: request, action: stop}`, `struct.rules[0].action: "stop", want reject, drop, set, clear, redact, route or header`},
	{`{on: request, method: Create, action: drop}`, `struct.rules[0].method: "Create", want /pkg.Service/Method, /pkg.Service/*, /pkg.* or *`},
	{`{on: request, action: set, fields: {name: '"x"'}, status: {code: ABORTED}, backend: gold, set: {a: '"b"'}}`,
		"struct.rules[0].status: given, want none with the action set\n" +
			"struct.rules[0].backend: given, want none with the action set\n" +
			"struct.rules[0].set: given, want none with the action set"},
	{`{on: request, action: reject, fields: [a]}`, `struct.rules[0].fields: given, want none with the action reject`},
	{`{on: request, action: reject, status: {code: OK}}`, `struct.rules[0].status.code: "OK", want the name of a gRPC code such as PERMISSION_DENIED, not OK`},
	{`{on: request, action: drop, status: {code: "7"}}`, `struct.rules[0].status.code: "7", want the name of a gRPC code such as PERMISSION_DENIED, not OK`},
	{`{on: request, action: drop, status: {code: permission_denied}}`, `struct.rules[0].status.code: "permission_denied", want the name of a gRPC code such as PERMISSION_DENIED, not OK`},
	{`{on: request, action: set}`, `struct.rules[0].fields: none, want at least one`},
	{`{on: request, action: set, fields: [name]}`, `struct.rules[0].fields: a list, want paths with an expression for each`},
	{`{on: request, action: redact, fields: {name: '"x"'}}`, `struct.rules[0].fields: expressions, want a list of paths for the action redact`},
	{`{on: request, action: clear}`, `struct.rules[0].fields: none, want at least one`},
	{`{on: request, action: clear, fields: ["a..b", "", "a[", "a[x]", 'a["x"', "a b", "a.", "1a", "[a.b]"]}`,
		`struct.rules[0].fields[0]: "a..b", want names joined by ".", each maybe with [] or ["key"] behind it
struct.rules[0].fields[1]: "", want names joined by ".", each maybe with [] or ["key"] behind it
struct.rules[0].fields[2]: "a[", want names joined by ".", each maybe with [] or ["key"] behind it
struct.rules[0].fields[3]: "a[x]", want names joined by ".", each maybe with [] or ["key"] behind it
struct.rules[0].fields[4]: "a[\"x\"", want names joined by ".", each maybe with [] or ["key"] behind it
struct.rules[0].fields[5]: "a b", want names joined by ".", each maybe with [] or ["key"] behind it
struct.rules[0].fields[6]: "a.", want names joined by ".", each maybe with [] or ["key"] behind it
struct.rules[0].fields[7]: "1a", want names joined by ".", each maybe with [] or ["key"] behind it
struct.rules[0].fields[8]: "[a.b]", want no extension: those cannot be addressed`},
	{`{on: request, action: set, fields: {audit: 'null', "audit.by": '"x"'}}`,
		`struct.rules[0].fields["audit.by"]: the same as, or a part of, fields["audit"], want fields apart from each other`},
	{`{on: request, action: route, backend: silver}`, `struct.rules[0].backend: "silver", want the name of a backend of the route: main, gold`},
	{`{on: request, action: route}`, `struct.rules[0].backend: "", want the name of a backend of the route: main, gold`},
	{`{on: response, action: route, backend: gold}`, `struct.rules[0].on: response, want request for the action route`},
	{`{on: response, action: header, set: {a: '"b"'}}`, `struct.rules[0].on: response, want request for the action header`},
	{`{on: request, action: header}`, `struct.rules[0].set: none, want at least one`},
	{`{on: request, action: header, set: {A: '"b"', grpc-x: '"b"', te: '"b"', ":path": '"b"', x-bin: '"b"', host: '"b"', via: '"b"'}}`,
		`struct.rules[0].set.:path: want a name of a-z, 0-9, _, . and -
struct.rules[0].set.A: want a name of a-z, 0-9, _, . and -
struct.rules[0].set.grpc-x: a reserved name, want another
struct.rules[0].set.host: a reserved name, want another
struct.rules[0].set.te: a reserved name, want another
struct.rules[0].set.via: a reserved name, want another
struct.rules[0].set.x-bin: a name of binary metadata, want one that does not end in -bin`},
	{`{on: request, when: "true &&\n  1 +", action: reject}`, `struct.rules[0].when: 2:6: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}`},
	{`{on: request, when: " ", action: reject}`, `struct.rules[0].when: "", want an expression`},
}

func TestCheck_NamesTheMistakesOfDocuments(t *testing.T) {
	for _, c := range mistakesOfDocuments {
		t.Run(c.rule, func(t *testing.T) {
			require.EqualError(t, Check(routeOf(t, "- "+c.rule)), c.want)
			_, err := Compile(routeOf(t, "- "+c.rule), shop(t))
			require.EqualError(t, err, c.want)
		})
	}
}

func TestCheck_KnowsTheTypesOfWhatIsNotInMessage(t *testing.T) {
	err := Check(routeOf(t, `- {on: request, when: 'nope == 1', action: reject}
- {on: request, when: 'metadata["a"] == 1', action: reject}
- {on: request, when: 'method', action: reject}
- {on: request, when: 'now + 1 > now', action: reject}
- {on: request, when: 'message.a.b[0].c == 1 && shop.Status.PAID == message.d', action: reject}
- {on: request, action: set, fields: {user: 'shop.User{name: "n"}', "a[].b": 'message.c'}}
- {on: request, when: 'nope(message)', action: reject}
- {on: request, when: 'message.x.matches(message.y)', action: reject}
- {on: request, action: header, set: {a: 'index'}}`))
	require.EqualError(t, err, `struct.rules[0].when: 1:1: undeclared reference to 'nope'
struct.rules[1].when: 1:15: found no matching overload for '_==_' applied to '(string, int)'
struct.rules[2].when: 1:1: a value of type string, want bool
struct.rules[3].when: 1:5: found no matching overload for '_+_' applied to '(timestamp, int)'
struct.rules[6].when: 1:5: undeclared reference to 'nope'
struct.rules[7].when: 1:18: matches of a pattern that is computed, want one in quotes
struct.rules[8].set.a: 1:1: a value of type int, want string`)
	require.NoError(t, Check(&spec.Route{}))
}

func TestCompile_NamesMistakesInTypesWithTheMethod(t *testing.T) {
	for _, c := range []struct{ rule, want string }{
		{`{on: request, when: 'message.nme == "x"', action: reject}`, `.when: 1:8: undefined field 'nme'`},
		{`{on: request, when: 'message.user.nme == "x"', action: reject}`, `.when: 1:13: undefined field 'nme'`},
		{`{on: request, when: 'message.name == 5', action: reject}`, `.when: 1:14: found no matching overload for '_==_' applied to '(string, int)'`},
		{`{on: request, when: 'message.name', action: reject}`, `.when: 1:8: a value of type string, want bool`},
		{`{on: request, when: 'message.user == shop.Nope{}', action: reject}`, `.when: 1:26: undeclared reference to 'shop.Nope'`},
		{`{on: request, when: 'message.status == shop.Status.NOPE', action: reject}`, `.when: 1:19: undeclared reference to 'shop'`},
		{`{on: request, when: 'message.name.matches("(")', action: reject}`, ".when: 1:21: error parsing regexp: missing closing ): `(`"},
		{`{on: request, when: 'message.name.matches("a{1000}b{1000}c{1000}")', action: reject}`, ".when: 1:21: matches of a pattern of 3002 instructions, want at most 2000"},
		{`{on: request, when: 'message.name.matches(message.tier)', action: reject}`, `.when: 1:21: matches of a pattern that is computed, want one in quotes`},
		{`{on: request, when: 'message.tags.exists(x, message.extra.text == x)', action: reject}`, `.when: 1:31: a google.protobuf.Any of message in a loop, want it outside`},
		{`{on: request, action: header, set: {x-a: 'message.amount'}}`, `.set.x-a: 1:8: a value of type int, want string`},
		{`{on: request, action: clear, fields: [nope]}`, `.fields[0]: shop.Order has no field "nope"`},
		{`{on: request, action: clear, fields: [user.nope]}`, `.fields[0]: shop.User has no field "nope"`},
		{`{on: request, action: clear, fields: [name.x]}`, `.fields[0]: shop.Order.name is of type string, want a message to find "x" in`},
		{`{on: request, action: clear, fields: [cards.month]}`, `.fields[0]: shop.Order.cards is repeated, want cards[] to find "month" in`},
		{`{on: request, action: clear, fields: [cards_by_name.month]}`, `.fields[0]: shop.Order.cards_by_name is a map, want cards_by_name["key"] or cards_by_name[] to find "month" in`},
		{`{on: request, action: clear, fields: ["name[]"]}`, `.fields[0]: shop.Order.name is not repeated, want name without []`},
		{`{on: request, action: clear, fields: ["user[].name"]}`, `.fields[0]: shop.Order.user is not repeated, want user without []`},
		{`{on: request, action: clear, fields: ['cards["a"]']}`, `.fields[0]: shop.Order.cards is not a map, want cards without ["a"]`},
		{`{on: request, action: clear, fields: ['counts["a"]']}`, `.fields[0]: shop.Order.counts has keys of type int32, got "a"`},
		{`{on: request, action: set, fields: {name: '1'}}`, `.fields["name"]: 1:1: a value of type int, want string`},
		{`{on: request, action: set, fields: {amount: '"x"'}}`, `.fields["amount"]: 1:1: a value of type string, want int64`},
		{`{on: request, action: set, fields: {amount: '1.5'}}`, `.fields["amount"]: 1:1: a value of type double, want int64`},
		{`{on: request, action: set, fields: {blob: '"x"'}}`, `.fields["blob"]: 1:1: a value of type string, want bytes`},
		{`{on: request, action: set, fields: {"audit.at": '1'}}`, `.fields["audit.at"]: 1:1: a value of type int, want google.protobuf.Timestamp`},
		{`{on: request, action: set, fields: {tags: '"x"'}}`, `.fields["tags"]: 1:1: a value of type string, want list(string)`},
		{`{on: request, action: set, fields: {tags: '[1]'}}`, `.fields["tags"]: 1:1: a value of type list(int), want list(string)`},
		{`{on: request, action: set, fields: {labels: '{1: "x"}'}}`, `.fields["labels"]: 1:1: a value of type map(int, string), want map(string, string)`},
		{`{on: request, action: set, fields: {card: 'message.user'}}`, `.fields["card"]: 1:8: a value of type shop.User, want shop.Card`},
		{`{on: request, action: set, fields: {card: 'optional.of(message.card)'}}`, `.fields["card"]: 1:12: a value of type optional_type(shop.Card), want shop.Card`},
		{`{on: request, action: set, fields: {"cards[]": '1'}}`, `.fields["cards[]"]: 1:1: a value of type int, want shop.Card`},
		{`{on: request, action: set, fields: {floor: '"x"'}}`, `.fields["floor"]: 1:1: a value of type string, want google.protobuf.Int32Value`},
		{`{on: request, action: set, fields: {attributes: '{1: 2}'}}`, `.fields["attributes"]: 1:1: a value of type map(int, int), want google.protobuf.Struct`},
		{`{on: request, action: set, fields: {extra: '1'}}`, `.fields["extra"]: 1:1: a value of type int, want google.protobuf.Any`},
		{`{on: request, action: set, fields: {status: '"NOPE"'}}`, `.fields["status"]: "NOPE", want a value of shop.Status`},
		{`{on: request, action: set, fields: {i32: '3000000000'}}`, `.fields["i32"]: 3000000000, want -2147483648 to 2147483647`},
		{`{on: request, action: set, fields: {u32: '-1'}}`, `.fields["u32"]: -1, want 0 to 4294967295`},
	} {
		t.Run(c.rule, func(t *testing.T) {
			_, err := Compile(routeOf(t, "- "+c.rule), shop(t))
			require.EqualError(t, err, "struct.rules[0]"+c.want+both)
		})
	}
}

func TestCompile_NamesTheMethodsThatARuleIsWrongFor(t *testing.T) {
	r := routeOf(t, `- {on: request, when: 'message.amount > 1', action: reject}
- {on: request, method: /shop.Others/Do, when: 'message.amount > 1', action: reject}`)
	r.Match = append(r.Match, spec.Match{Method: "/shop.Others/*"})
	_, err := Compile(r, shop(t))
	require.EqualError(t, err, "struct.rules[0].when: 1:8: undefined field 'amount' (/shop.Others/Do)\n"+
		"struct.rules[1].when: 1:8: undefined field 'amount' (/shop.Others/Do)")
}

func TestCompile_WantsMethods(t *testing.T) {
	r := routeOf(t, `- {on: request, action: reject}`)
	r.Match[0].Method = "/nope.*"
	_, err := Compile(r, shop(t))
	require.EqualError(t, err, "match: the schema has no method of /nope.*, want at least one")
	_, err = Compile(routeOf(t, `- {on: request, method: /shop.Others/Do, action: reject}`), shop(t))
	require.EqualError(t, err, `struct.rules[0].method: "/shop.Others/Do", want a method of the schema that the route matches`)
}

func TestCompile_BoundsDocuments(t *testing.T) {
	_, err := Compile(routeOf(t, strings.Repeat("- {on: request, action: reject}\n", maxRules+1)), shop(t))
	require.EqualError(t, err, "struct.rules: 65 rules, want at most 64")
	_, err = Compile(routeOf(t, `- {on: request, when: 'message.name == "`+strings.Repeat("x", maxExpressionBytes)+`"', action: reject}`), shop(t))
	require.EqualError(t, err, "struct.rules[0].when: an expression of 4114 bytes, want at most 4096")
	_, err = Compile(routeOf(t, `- {on: request, action: clear, fields: [`+strings.Repeat("name,", maxFields+1)+`]}`), shop(t))
	require.EqualError(t, err, "struct.rules[0].fields: 65, want at most 64")
	_, err = Compile(routeOf(t, `- {on: request, when: '`+strings.Repeat("(", 2000)+`true', action: reject}`), shop(t))
	require.ErrorContains(t, err, "struct.rules[0].when: ")
	_, err = Compile(routeOf(t, `- {on: request, action: clear, fields: [`+strings.Repeat("audit.", 33)+`by]}`), shop(t))
	require.EqualError(t, err, "struct.rules[0].fields[0]: a path of more than 32 names, want at most that")
}

func TestCompile_BoundsTheExpressionsOfAllTypes(t *testing.T) {
	var proto strings.Builder
	proto.WriteString("syntax = \"proto3\"; package big;\n")
	for i := range 200 {
		fmt.Fprintf(&proto, "message M%d { string name = 1; } service S%d { rpc M(M%d) returns (M%d); }\n", i, i, i, i)
	}
	r := routeOf(t, strings.Repeat("- {on: request, when: 'message.name == \"a\"', action: reject}\n", 51))
	r.Match[0].Method = "*"
	_, err := Compile(r, filesOf(t, map[string]string{"big.proto": proto.String()}))
	require.EqualError(t, err,
		"struct.rules: more than 10000 expressions, counted once for each type of message, want at most that; name fewer methods")
}

func TestCompile_CompilesARuleOnceForATypeOfMessage(t *testing.T) {
	p := programOf(t, `- {on: request, when: 'message.name == "a"', action: reject}`)
	require.Same(t, p.Method(create).Request.rules[0], p.Method("/shop.Orders/Watch").Request.rules[0])
}

func TestCompileCondition_TestsMessages(t *testing.T) {
	files := shop(t)
	p, err := Compile(routeOf(t, ""), files)
	require.NoError(t, err)
	r := p.Method(create).Request
	md := p.Method(create).Descriptor.Input()
	c, err := CompileCondition(`message.name == "a" && index == 2 && metadata["k"] == "v"`, md, files)
	require.NoError(t, err)
	call := &Call{Metadata: func() map[string]string { return map[string]string{"k": "v"} }}
	for name, want := range map[string]bool{"a": true, "b": false} {
		ok, err := c.Eval(call, messageOf(t, p, r, `{"name": "`+name+`"}`), Frame{Index: 2})
		require.NoError(t, err)
		require.Equal(t, want, ok)
	}
	_, err = c.Eval(&Call{}, messageOf(t, p, r, `{"name": "a"}`), Frame{Index: 2})
	require.EqualError(t, err, "condition: no such key: k")

	_, err = CompileCondition(`message.nme == "a"`, md, files)
	require.EqualError(t, err, "1:8: undefined field 'nme'")
	_, err = CompileCondition(`message.name ==`, md, files)
	require.ErrorContains(t, err, "1:16: Syntax error")
	_, err = CompileCondition(`message.name`, md, files)
	require.EqualError(t, err, "a value of type string, want bool")
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"a", "a.b", "a[].b", `a["k"].b`, `a["\x80"]`, "a[", "", ".", `a["`, "a[]]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePath(s)
		if err != nil {
			return
		}
		if len(p) == 0 || len(p) > maxPathSteps {
			t.Fatalf("%q has %d names", s, len(p))
		}
		if !p.within(p) {
			t.Fatalf("%q is not within itself", s)
		}
	})
}
