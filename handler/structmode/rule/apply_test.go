package rule

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
)

const create = "/shop.Orders/Create"

// apply takes a request, as JSON, through rules. It returns the request afterwards.
func apply(t *testing.T, rules, request string, index int64) (Result, string, error) {
	t.Helper()
	p := programOf(t, rules)
	r := p.Method(create).Request
	m := messageOf(t, p, r, request)
	var out Result
	err := r.Apply(&Call{
		Method: create, Peer: "192.0.2.1:99",
		Metadata: func() map[string]string { return map[string]string{"x-approved": "a,b"} },
		Now:      func() time.Time { return time.Unix(1700000000, 5) },
	}, m, Frame{Index: index}, &out)
	return out, jsonOf(t, p, m), err
}

func TestApply_RejectsWithTheStatusOfTheRule(t *testing.T) {
	rules := `- {on: request, when: 'message.name == "blocked"', action: reject, status: {code: UNAUTHENTICATED, message: "name is blocked"}}
- {on: request, action: set, fields: {tier: '"seen"'}}`
	out, after, err := apply(t, rules, `{"name": "blocked"}`, 0)
	require.NoError(t, err)
	require.Equal(t, Reject, out.Verdict)
	require.Equal(t, codes.Unauthenticated, out.Code)
	require.Equal(t, "name is blocked", out.Message)
	require.False(t, out.Changed, "rules after a reject are not tried")
	require.JSONEq(t, `{"name": "blocked"}`, after)
	require.Equal(t, [NumActions]uint32{ActionReject: 1}, out.Hits)

	out, after, err = apply(t, rules, `{"name": "fine"}`, 0)
	require.NoError(t, err)
	require.Equal(t, Pass, out.Verdict)
	require.True(t, out.Changed)
	require.JSONEq(t, `{"name": "fine", "tier": "seen"}`, after)
}

func TestApply_DefaultStatusesOfRejectAndDrop(t *testing.T) {
	out, _, err := apply(t, `- {on: request, action: reject}`, `{}`, 0)
	require.NoError(t, err)
	require.Equal(t, Result{Verdict: Reject, Code: codes.PermissionDenied, Headers: []Header{}, Hits: out.Hits}, withHeaders(out))
	out, _, err = apply(t, `- {on: request, action: drop}`, `{}`, 0)
	require.NoError(t, err)
	require.Equal(t, Result{Verdict: Drop, Code: codes.FailedPrecondition, Headers: []Header{}, Hits: out.Hits}, withHeaders(out))
}

func withHeaders(out Result) Result {
	if out.Headers == nil {
		out.Headers = []Header{}
	}
	return out
}

func TestApply_DropsByMetadataAndAmount(t *testing.T) {
	rules := `- {on: request, when: 'message.amount > 1000 && !("x-approved" in metadata)', action: drop}
- {on: request, when: 'message.amount > 1000 && !("x-other" in metadata) && metadata["x-approved"] == "a,b"', action: drop}`
	out, _, err := apply(t, rules, `{"amount": 1001}`, 3)
	require.NoError(t, err)
	require.Equal(t, Drop, out.Verdict)
	require.Equal(t, uint32(1), out.Hits[ActionDrop])
}

func TestApply_SetSeesTheMessageAsItWasBeforeTheRule(t *testing.T) {
	out, after, err := apply(t, `- {on: request, action: set, fields: {name: 'message.tier', tier: 'message.name', "audit.at": now}}
- {on: request, action: set, fields: {tenant: 'message.name'}}`, `{"name": "n", "tier": "t"}`, 0)
	require.NoError(t, err)
	require.True(t, out.Changed)
	require.JSONEq(t, `{"name": "t", "tier": "n", "tenant": "t", "audit": {"at": "2023-11-14T22:13:20.000000005Z"}}`, after)
	require.Equal(t, uint32(2), out.Hits[ActionSet])
}

func TestApply_RoutesAndSetsHeaders(t *testing.T) {
	rules := `- {on: request, when: 'message.tier == "gold"', action: route, backend: gold}
- {on: request, action: header, set: {x-tenant: 'message.tenant', x-peer: peer, x-method: method}}`
	out, _, err := apply(t, rules, `{"tier": "gold", "tenant": "acme"}`, 0)
	require.NoError(t, err)
	require.Equal(t, "gold", out.Backend)
	require.Equal(t, []Header{{"x-method", create}, {"x-peer", "192.0.2.1:99"}, {"x-tenant", "acme"}}, out.Headers)
	require.False(t, out.Changed)
	require.Equal(t, [NumActions]uint32{ActionRoute: 1, ActionHeader: 1}, out.Hits)

	p := programOf(t, rules+"\n- {on: request, when: 'index == 1', action: drop}")
	rest := p.Method(create).Request.Rest()
	require.NoError(t, rest.Apply(&Call{}, messageOf(t, p, rest, `{"tier": "gold", "tenant": "acme"}`), Frame{Index: 1}, &out))
	require.Equal(t, Result{Headers: []Header{}, Verdict: Drop, Code: codes.FailedPrecondition, Hits: [NumActions]uint32{ActionDrop: 1}}, out)
	require.Same(t, rest, rest.Rest())
	require.Same(t, p.Method(create).Response, p.Method(create).Response.Rest())
	require.Nil(t, (*Rules)(nil).Rest())
}

func TestApply_LastRouteRuleThatFiresWins(t *testing.T) {
	out, _, err := apply(t, `- {on: request, action: route, backend: gold}
- {on: request, action: route, backend: main}
- {on: request, when: 'false', action: route, backend: gold}`, `{}`, 0)
	require.NoError(t, err)
	require.Equal(t, "main", out.Backend)
}

func TestApply_IndexIsThePositionInTheStream(t *testing.T) {
	for index, want := range []Verdict{Pass, Pass, Reject} {
		out, _, err := apply(t, `- {on: request, when: 'index >= 2', action: reject}`, `{}`, int64(index))
		require.NoError(t, err)
		require.Equal(t, want, out.Verdict)
	}
}

func TestApply_ForgetsTheResultOfTheMessageBefore(t *testing.T) {
	p := programOf(t, `- {on: request, when: 'message.name == "x"', action: reject}
- {on: request, action: header, set: {a: '"1"'}}`)
	r := p.Method(create).Request
	var out Result
	require.NoError(t, r.Apply(&Call{}, messageOf(t, p, r, `{"name": "x"}`), Frame{}, &out))
	require.Equal(t, Reject, out.Verdict)
	for range 2 {
		require.NoError(t, r.Apply(&Call{}, messageOf(t, p, r, `{}`), Frame{}, &out))
		require.Equal(t, Result{Headers: []Header{{"a", "1"}}, Hits: [NumActions]uint32{ActionHeader: 1}}, out)
	}
}

func TestApply_ResponsesHaveRulesOfTheirOwn(t *testing.T) {
	p := programOf(t, `- {on: response, action: redact, fields: [user.email, "cards[].number"]}
- {on: response, when: 'message.text == "secret"', action: reject, status: {code: INTERNAL}}`)
	m := p.Method("/shop.Orders/Watch")
	require.Empty(t, m.Request.rules)
	require.NotEmpty(t, m.Response.rules)
	require.False(t, m.Deferred())
	reply := messageOf(t, p, m.Response, `{"user": {"email": "e", "name": "n"}, "cards": [{"number": "1", "month": 2}, {}]}`)
	var out Result
	require.NoError(t, m.Response.Apply(&Call{}, reply, Frame{Index: 7}, &out))
	require.True(t, out.Changed)
	require.JSONEq(t, `{"user": {"email": "[REDACTED]", "name": "n"}, "cards": [{"number": "[REDACTED]", "month": 2}, {}]}`,
		jsonOf(t, p, reply))
	require.NoError(t, m.Response.Apply(&Call{}, messageOf(t, p, m.Response, `{"text": "secret"}`), Frame{}, &out))
	require.Equal(t, codes.Internal, out.Code)
}

func TestApply_WithoutRulesPasses(t *testing.T) {
	p, err := Compile(routeOf(t, ""), shop(t))
	require.NoError(t, err)
	r := p.Method(create).Request
	require.Empty(t, r.rules)
	out := Result{Verdict: Reject}
	require.NoError(t, r.Apply(&Call{}, r.New(), Frame{}, &out))
	require.Equal(t, Pass, out.Verdict)
	require.Nil(t, p.Method("/shop.Orders/Missing"))
	require.Nil(t, p.Method("/shop.Others/Do"), "the route does not match it")
}

func TestMethod_DeferredWithRouteOrHeaderRules(t *testing.T) {
	require.True(t, programOf(t, `- {on: request, action: route, backend: gold}`).Method(create).Deferred())
	require.True(t, programOf(t, `- {on: request, action: header, set: {a: '"1"'}}`).Method(create).Deferred())
	p := programOf(t, `- {on: request, method: /shop.Orders/Watch, action: route, backend: gold}
- {on: request, action: reject}`)
	require.False(t, p.Method(create).Deferred())
	require.True(t, p.Method("/shop.Orders/Watch").Deferred())
}

func TestApply_FailsWhenARuleCannotBeEvaluated(t *testing.T) {
	for _, c := range []struct{ rule, request, want string }{
		{`{on: request, when: 'message.labels["env"] == "x"', action: reject}`, `{}`, `struct.rules[0].when: no such key: env`},
		{`{on: request, when: 'metadata["nope"] == "x"', action: reject}`, `{}`, `struct.rules[0].when: no such key: nope`},
		{`{on: request, when: 'message.amount + 9223372036854775807 > 0', action: reject}`, `{"amount": 1}`,
			`struct.rules[0].when: integer overflow`},
		{`{on: request, when: 'message.amount / 0 == 1', action: reject}`, `{}`, `struct.rules[0].when: division by zero`},
		{`{on: request, when: 'message.value', action: reject}`, `{"value": 5}`,
			`struct.rules[0].when: a value of type double, want bool`},
		{`{on: request, when: 'message.tags[0] == "x"', action: reject}`, `{}`, `struct.rules[0].when: index out of bounds: 0`},
		{`{on: request, action: set, fields: {i32: 'message.amount'}}`, `{"amount": "3000000000"}`,
			`struct.rules[0].fields["i32"]: 3000000000, want -2147483648 to 2147483647`},
		{`{on: request, action: set, fields: {u64: 'message.amount'}}`, `{"amount": "-1"}`,
			`struct.rules[0].fields["u64"]: -1, want 0 to 18446744073709551615`},
		{`{on: request, action: set, fields: {f32: 'message.f64'}}`, `{"f64": 1e300}`,
			`struct.rules[0].fields["f32"]: 1e+300, want a number that fits into a float`},
		{`{on: request, action: set, fields: {status: 'message.name'}}`, `{"name": "NOPE"}`,
			`struct.rules[0].fields["status"]: "NOPE", want a value of shop.Status`},
		{`{on: request, action: set, fields: {name: 'message.value'}}`, `{"value": 1}`,
			`struct.rules[0].fields["name"]: a value of type double, want string`},
		{`{on: request, action: set, fields: {tags: 'message.value'}}`, `{"value": ["a", 1]}`,
			`struct.rules[0].fields["tags"]: element 1: a value of type double, want string`},
		{`{on: request, action: header, set: {x-a: 'message.name'}}`, `{"name": "a\nb"}`,
			`struct.rules[0].set.x-a: a value with the byte 0x0a, want printable ASCII`},
		{`{on: request, action: header, set: {x-a: 'message.name'}}`, `{"name": "é"}`,
			`struct.rules[0].set.x-a: a value with the byte 0xc3, want printable ASCII`},
		{`{on: request, action: header, set: {x-a: 'message.value'}}`, `{"value": true}`,
			`struct.rules[0].set.x-a: a value of type bool, want string`},
		{`{on: request, when: 'message.extra.text == "x"', action: reject}`,
			`{}`, `struct.rules[0].when: no such key: text`},
	} {
		t.Run(c.rule, func(t *testing.T) {
			_, after, err := apply(t, "- "+c.rule, c.request, 0)
			var evalErr *EvalError
			require.ErrorAs(t, err, &evalErr)
			require.EqualError(t, err, c.want)
			p := programOf(t, "- "+c.rule)
			require.JSONEq(t, jsonOf(t, p, messageOf(t, p, p.Method(create).Request, c.request)), after, "nothing is set")
		})
	}
}

func TestApply_ASetThatFailsChangesNothing(t *testing.T) {
	_, after, err := apply(t, `- {on: request, action: set, fields: {name: '"new"', i32: 'message.amount'}}`,
		`{"name": "old", "amount": "3000000000"}`, 0)
	require.Error(t, err)
	require.JSONEq(t, `{"name": "old", "amount": "3000000000"}`, after)
}

func TestEvalError_KeepsAPartOfALongReason(t *testing.T) {
	x := expression{key: "k"}
	err := x.fail(fmt.Errorf("%01000d", 0))
	require.Less(t, len(err.Error()), 600)
}

func TestApply_MayRunInBothDirectionsAtTheSameTime(t *testing.T) {
	p := programOf(t, `- {on: request, when: 'message.labels.all(k, k != "x") && metadata["a"] == "b"', action: set, fields: {name: '"a" + message.name'}}
- {on: response, when: '"a" in metadata && now > timestamp(0)', action: set, fields: {text: '"b" + message.text'}}`)
	call := &Call{Metadata: sync.OnceValue(func() map[string]string { return map[string]string{"a": "b"} })}
	m := p.Method(create)
	var wg sync.WaitGroup
	for _, r := range []*Rules{m.Request, m.Response} {
		wg.Go(func() {
			var out Result
			for i := range 200 {
				if err := r.Apply(call, r.New(), Frame{Index: int64(i)}, &out); err != nil || !out.Changed {
					t.Errorf("message %d: %v, changed %t", i, err, out.Changed)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestApply_BuildsNoMetadataThatNobodyAsksFor(t *testing.T) {
	p := programOf(t, `- {on: request, when: 'message.name == "x" && "a" in metadata', action: reject}`)
	r := p.Method(create).Request
	var out Result
	asked := 0
	call := &Call{Metadata: func() map[string]string { asked++; return nil }}
	require.NoError(t, r.Apply(call, r.New(), Frame{}, &out))
	require.Zero(t, asked)
	require.NoError(t, r.Apply(call, messageOf(t, p, r, `{"name": "x"}`), Frame{}, &out))
	require.Equal(t, 1, asked)
}

func TestRedact_AppliesRulesWhateverTheirConditions(t *testing.T) {
	p := programOf(t, `- {on: request, when: 'false', action: redact, fields: [user.email]}
- {on: request, action: clear, fields: [name]}
- {on: request, action: redact, fields: [blob]}`)
	r := p.Method(create).Request
	m := messageOf(t, p, r, `{"name": "n", "user": {"email": "e"}, "blob": "AAAA"}`)
	r.Redact(m)
	require.JSONEq(t, `{"name": "n", "user": {"email": "[REDACTED]"}}`, jsonOf(t, p, m))
}

func TestAction_HasTheNameOfDocuments(t *testing.T) {
	require.Equal(t, "reject", ActionReject.String())
	require.Equal(t, "header", ActionHeader.String())
	require.Equal(t, "Action(7)", NumActions.String())
}
