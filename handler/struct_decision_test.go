package handler_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/test/testbed"
)

// Route and header rules decide by message 0. When a later rule drops that message, what they decided must still hold.
func TestStruct_FirstMessageThatIsDroppedStillDecides(t *testing.T) {
	s := orders(t)
	for _, more := range []int{0, 1} {
		t.Run(fmt.Sprint(more, " messages behind it"), func(t *testing.T) {
			main, gold := testbed.NewH2Server(t), testbed.NewH2Server(t)
			_, cc := startRoutes(t, orderProto, twoBackends(main.Addr, gold.Addr, `struct: {rules: [
  {on: request, when: 'message.tier == "gold"', action: route, backend: gold},
  {on: request, action: header, set: {x-name: 'message.name'}},
  {on: request, when: 'message.name == "drop"', action: drop}]}`))
			stream, err := handlertest.Open(t.Context(), cc, "/shop.Shop/Chat")
			require.NoError(t, err)
			drop, second := order(t, s, map[string]any{"name": "drop", "tier": "gold"}), order(t, s, map[string]any{"name": "second"})
			require.NoError(t, stream.SendMsg(&drop))
			for range more {
				require.NoError(t, stream.SendMsg(&second))
			}
			require.NoError(t, stream.CloseSend())
			testbed.Poll(t, func() error {
				if len(main.Conns())+len(gold.Conns()) == 0 {
					return fmt.Errorf("no connection")
				}
				return nil
			})
			require.Empty(t, main.Conns(), "connections to the default backend")
			require.Equal(t, "drop", gold.Accept(t).ReadHeaders().Get("x-name"))
		})
	}
}

// A list without an encoding is a header with no value, which the specification does not have.
func TestStruct_LeavesOutAnEmptyListOfEncodings(t *testing.T) {
	_, cfg := observed()
	shop := startRawShop(t, bothWays, cfg)
	_, _, request := shop.open(t, chat("grpc-accept-encoding", "br"))
	require.Empty(t, request.Values("grpc-accept-encoding"))
}

// What a header rule sets is the route's to say: a client that avoids the rule must not say it in its place.
func TestStruct_ClientsCannotSendWhatHeaderRulesSet(t *testing.T) {
	const rules = `struct: {rules: [{on: request, action: header, set: {x-tenant: 'message.tier'}}, {on: request, when: 'message.name == "drop"', action: drop}]}`
	for name, c := range map[string]struct {
		fields  testbed.Fields
		message map[string]any // nil for none
		want    []string
	}{
		"plain":           {chat("x-tenant", "evil", "x-other", "kept"), map[string]any{"tier": "good"}, []string{"good"}},
		"dropped message": {chat("x-tenant", "evil", "x-other", "kept"), map[string]any{"tier": "good", "name": "drop"}, []string{"good"}},
		"no message":      {chat("x-tenant", "evil", "x-other", "kept"), nil, nil},
		"hop by hop":      {chat("connection", "x-tenant", "x-other", "kept"), map[string]any{"tier": "good"}, []string{"good"}},
	} {
		t.Run(name, func(t *testing.T) {
			shop := startRawShop(t, rules, handler.Config{})
			cs := shop.client.Open(t, c.fields)
			var body []byte
			if c.message != nil {
				body = testbed.Frame(order(t, shop.schema, c.message))
			}
			cs.SendEnd(body)
			request := shop.server.Accept(t).ReadHeaders()
			require.Equal(t, c.want, request.Values("x-tenant"))
			require.Equal(t, []string{"kept"}, request.Values("x-other"))
		})
	}
}
