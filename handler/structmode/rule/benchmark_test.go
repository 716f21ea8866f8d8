package rule

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const benchmarkOrder = `{"name": "n", "amount": "12", "tier": "silver", "tenant": "t", "audit": {"by": "b"},
"user": {"email": "e@x", "name": "u"}, "cards": [{"number": "1"}, {"number": "2"}], "labels": {"env": "prod"},
"cash": "c", "status": "PAID", "i32": 1, "u32": 2, "u64": "3", "f32": 1.5, "f64": 2.5, "flag": true, "blob": "AAAA",
"maybe": 1, "tags": ["a"], "numbers": [1, 2]}`

func benchmarkRules(b *testing.B, rules string, want int) {
	p := programOf(b, rules)
	r := p.Method("/shop.Orders/Create").Request
	m := messageOf(b, p, r, benchmarkOrder)
	call := &Call{
		Method: "/shop.Orders/Create", Peer: "127.0.0.1:1",
		Metadata: func() map[string]string { return map[string]string{"x-approved": "1"} },
	}
	var out Result
	require.NoError(b, r.Apply(call, m, Frame{}, &out))
	hits := 0
	for _, n := range out.Hits {
		hits += int(n)
	}
	require.Equal(b, want, hits)
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		if err := r.Apply(call, m, Frame{}, &out); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRules_OneThatDoesNotMatch(b *testing.B) {
	benchmarkRules(b, `- {on: request, when: 'message.name == "blocked"', action: reject}`, 0)
}

func BenchmarkRules_Ten(b *testing.B) {
	benchmarkRules(b, `- {on: request, when: 'message.name == "blocked"', action: reject}
- {on: request, when: 'message.amount > 1000 && !("x-approved" in metadata)', action: drop}
- {on: request, action: set, fields: {"name": '"kitex-" + message.tier', "audit.at": 'now'}}
- {on: request, action: redact, fields: ["user.email", "cards[].number"]}
- {on: request, when: 'message.tier == "gold"', action: route, backend: gold}
- {on: request, action: header, set: {x-tenant: 'message.tenant'}}
- {on: request, when: 'message.labels["env"] == "dev"', action: reject}
- {on: request, when: 'message.user.name.startsWith("admin")', action: reject}
- {on: request, when: 'message.status == shop.Status.SENT || message.f64 < 1.0', action: drop}
- {on: request, when: 'has(message.card) && message.card.month > 12', action: clear, fields: [card]}
`, 3)
}

func BenchmarkCompile_FiveHundredMethods(b *testing.B) {
	var proto strings.Builder
	proto.WriteString("syntax = \"proto3\"; package big;\n")
	for i := range 500 {
		fmt.Fprintf(&proto, "message Q%d { string name = 1; int64 amount = 2; string tier = 3; Q%d next = 4; }\n", i, i)
		fmt.Fprintf(&proto, "message R%d { string email = 1; }\n", i)
		fmt.Fprintf(&proto, "service S%d { rpc M(Q%d) returns (R%d); }\n", i, i, i)
	}
	files := filesOf(b, map[string]string{"big.proto": proto.String()})
	r := routeOf(b, `- {on: request, when: 'message.name == "blocked"', action: reject}
- {on: request, when: 'message.amount > 1000 && !("x-approved" in metadata)', action: drop}
- {on: request, action: set, fields: {"name": '"kitex-" + message.name', "tier": '"a"'}}
- {on: response, action: redact, fields: [email]}
- {on: request, action: header, set: {x-tenant: 'message.tier'}}
`)
	r.Match[0].Method = "*"
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(r, files); err != nil {
			b.Fatal(err)
		}
	}
}
