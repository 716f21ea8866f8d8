package mirrors

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/framegate/framegate/handler/mirror"
	"github.com/framegate/framegate/test/testbed"
)

// ruled is a rule that changes every answer.
const ruled = "mode: struct\nstruct: {rules: [{on: response, when: \"true\", action: set, fields: {item: '\"ruled\"'}}]}\n"

// Rules change what the client gets, not what two backends are compared by.
func TestCompare_BeforeRules(t *testing.T) {
	t.Parallel()
	primary, mirrored := newShop(t, ""), newShop(t, "")
	p := testbed.NewProxy(t, shopRoute(t, primary.addr, ruled+shadow(mirrored.addr, "compare: {}")))
	require.Contains(t, string(priceOf(t, p, "tea")), "ruled")
	awaitCompared(t, p, mirror.Same, 1)
}

// Whoever answers, the rules of the route apply to what the client gets.
func TestRespond_RulesApply(t *testing.T) {
	t.Parallel()
	for _, several := range []bool{false, true} {
		t.Run(fmt.Sprint("several ", several), func(t *testing.T) {
			t.Parallel()
			keys := ruled + "mirrors:\n"
			for i := range 2 {
				if i == 0 || several {
					keys += fmt.Sprintf("- {name: m%d, backend: {endpoints: [{address: %q}]}, select: {types: [{field: \"1\", equals: tea, respond: true}]}}\n", i, newShop(t, "").addr)
				}
			}
			if several {
				keys += "respond: first\n"
			}
			p := testbed.NewProxy(t, shopRoute(t, newShop(t, "").addr, keys))
			require.Contains(t, string(priceOf(t, p, "tea")), "ruled")
		})
	}
}

// priceOf asks a shop for a price, and returns the answer's bytes.
func priceOf(t *testing.T, p *testbed.Proxy, item string) (reply []byte) {
	t.Helper()
	request := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), item)
	require.NoError(t, testbed.DialGRPC(t, p.Addr).Invoke(within(t), "/shop.Shop/Price", &request, &reply))
	return reply
}
