package handler_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/test/testbed"
)

// What is decided about a call is decided by the first message that goes on, whatever took those before it out of the
// stream, and by none if none goes on.
func TestStruct_FirstMessageThatIsForwardedDecides(t *testing.T) {
	t.Parallel()
	const rules = `struct: {rules: [
  {on: request, when: 'message.card == "early"', action: drop},
  {on: request, when: 'message.tier == "gold"', action: route, backend: gold},
  {on: request, when: 'message.name != "mute"', action: header, set: {x-name: 'message.name', x-index: 'string(index)'}},
  {on: request, when: 'message.card == "late"', action: drop}]}`
	early, late := map[string]any{"name": "e", "tier": "gold", "card": "early"}, map[string]any{"name": "l", "tier": "gold", "card": "late"}
	filtered := map[string]any{"name": "f", "tier": "gold", "card": "filter"}
	gold, mute, main := map[string]any{"name": "g", "tier": "gold"}, map[string]any{"name": "mute"}, map[string]any{"name": "m"}
	bad := map[string]any{} // stands for a message that cannot be decoded
	for name, c := range map[string]struct {
		route         string
		sent          []map[string]any
		gold          bool
		xName, xIndex string
		forwarded     int // of the last ones
	}{
		"dropped before it could decide": {"", []map[string]any{early, gold}, true, "g", "1", 1},
		"dropped when it had decided":    {"", []map[string]any{late, main}, false, "m", "1", 1},
		"dropped by a filter":            {"", []map[string]any{filtered, main}, false, "m", "1", 1},
		"all ways in a row":              {"", []map[string]any{early, late, filtered, late, early, gold, main}, true, "g", "5", 2},
		"nothing to decide":              {"", []map[string]any{late, mute, gold}, false, "", "", 2},
		"all dropped":                    {"", []map[string]any{late, filtered, early}, false, "", "", 0},
		"none dropped":                   {"", []map[string]any{gold, main}, true, "g", "0", 2},
		"passed undecoded":               {"", []map[string]any{late, bad, gold}, false, "", "", 2},
		"with retries":                   {"retry: {attempts: 2}, ", []map[string]any{late, gold}, true, "g", "1", 1},
		"with hedging":                   {"hedge: {delay: 10s}, ", []map[string]any{late, gold}, true, "g", "1", 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := orders(t)
			var sent [][]byte
			for _, m := range c.sent {
				if len(m) == 0 {
					sent = append(sent, []byte{0xff})
				} else {
					sent = append(sent, order(t, s, m))
				}
			}
			filter, err := structmode.NewFilter("/shop.Shop/Chat", structmode.Filter[wrapperspb.StringValue, wrapperspb.StringValue]{
				Request: func(_ context.Context, m *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
					if m.Value == "f" { // the name
						return nil, nil
					}
					return m, nil
				},
			})
			require.NoError(t, err)
			backends := [2]*witness{newWitness(), newWitness()}
			_, cc := startRoutes(t, orderProto, twoBackends(handlertest.Backend(t, backends[0].serve), handlertest.Backend(t, backends[1].serve),
				c.route+strings.Replace(rules, "{rules", "{on_decode_error: pass, rules", 1)), filter)
			ctx := metadata.AppendToOutgoingContext(t.Context(), "x-name", "client")
			stream, err := handlertest.Open(ctx, cc, "/shop.Shop/Chat")
			require.NoError(t, err)
			for _, m := range sent {
				require.NoError(t, stream.SendMsg(&m))
			}
			require.NoError(t, stream.CloseSend())
			var reply []byte
			for err = nil; err == nil; {
				err = stream.RecvMsg(&reply)
			}
			require.ErrorIs(t, err, io.EOF)
			used, other := backends[0], backends[1]
			if c.gold {
				used, other = other, used
			}
			require.Nil(t, other.metadata(), "a call at the other backend")
			require.Equal(t, append([][]byte(nil), sent[len(sent)-c.forwarded:]...), used.messages())
			require.Equal(t, c.xName, strings.Join(used.metadata().Get("x-name"), "|"))
			require.Equal(t, c.xIndex, strings.Join(used.metadata().Get("x-index"), "|"))
		})
	}
}

// A list without an encoding is a header with no value, which the specification does not have.
func TestStruct_LeavesOutAnEmptyListOfEncodings(t *testing.T) {
	t.Parallel()
	_, cfg := observed()
	shop := startRawShop(t, bothWays, cfg)
	_, _, request := shop.open(t, chat("grpc-accept-encoding", "br"))
	require.Empty(t, request.Values("grpc-accept-encoding"))
}

// What a header rule sets is the route's to say: a client that avoids the rule must not say it in its place.
func TestStruct_ClientsCannotSendWhatHeaderRulesSet(t *testing.T) {
	t.Parallel()
	const rules = `struct: {rules: [{on: request, action: header, set: {x-tenant: 'message.tier'}}, {on: request, when: 'message.name == "drop"', action: drop}]}`
	for name, c := range map[string]struct {
		fields  testbed.Fields
		message map[string]any // nil for none
		want    []string
	}{
		"plain":           {chat("x-tenant", "evil", "x-other", "kept"), map[string]any{"tier": "good"}, []string{"good"}},
		"dropped message": {chat("x-tenant", "evil", "x-other", "kept"), map[string]any{"tier": "good", "name": "drop"}, nil},
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
