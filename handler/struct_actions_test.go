package handler_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/resolver"
	"github.com/framegate/framegate/resolver/filesource"
	"github.com/framegate/framegate/resolver/schema"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// witness is a backend that echoes and remembers what it got.
type witness struct {
	mu       sync.Mutex
	got      [][]byte
	md       metadata.MD
	canceled chan struct{} // one for each call whose context ended before its request did
}

func newWitness() *witness { return &witness{canceled: make(chan struct{}, 16)} }

func (w *witness) serve(stream grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	w.mu.Lock()
	w.md = md
	w.mu.Unlock()
	for {
		var m []byte
		if err := stream.RecvMsg(&m); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			<-stream.Context().Done()
			w.canceled <- struct{}{}
			return err
		}
		w.mu.Lock()
		w.got = append(w.got, m)
		w.mu.Unlock()
		if err := stream.SendMsg(&m); err != nil {
			return err
		}
	}
}

func (w *witness) messages() [][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got
}

func (w *witness) metadata() metadata.MD {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.md
}

// decoded is what a message says to somebody with the schema, its unknown fields last.
func decoded(t testing.TB, s *schema.Schema, b []byte) map[string]any {
	t.Helper()
	m := newOrder(s)
	require.NoError(t, proto.Unmarshal(b, m))
	all := map[string]any{"unknown": string(m.GetUnknown())}
	for fd, v := range m.Range {
		all[string(fd.Name())] = v.Interface()
	}
	return all
}

var unknownField = string([]byte{0xa2, 0x06, 3, 'n', 'e', 'w'}) // what order adds

// actions are what a rule may do with the order {name: hit, amount: 7, card: 4111}.
var actions = []struct {
	name, rule string
	code       codes.Code // of the call; OK if the message goes on
	message    string
	dropped    bool
	after      map[string]any
}{
	{name: "reject", rule: "action: reject", code: codes.PermissionDenied, message: "framegate: %s refused by a rule"},
	{name: "reject with a status", rule: "action: reject, status: {code: OUT_OF_RANGE, message: no more}", code: codes.OutOfRange, message: "framegate: no more"},
	{name: "drop", rule: "action: drop", code: codes.FailedPrecondition, message: "framegate: %s refused by a rule", dropped: true},
	{name: "set", rule: `action: set, fields: {tier: '"gold-" + message.name', amount: 'message.amount + 1'}`,
		after: map[string]any{"name": "hit", "amount": int64(8), "tier": "gold-hit", "card": "4111", "unknown": unknownField}},
	{name: "clear", rule: "action: clear, fields: [card, tier]", after: map[string]any{"name": "hit", "amount": int64(7), "unknown": unknownField}},
	{name: "redact", rule: "action: redact, fields: [card, amount]", after: map[string]any{"name": "hit", "card": "[REDACTED]", "unknown": unknownField}},
	{name: "rule that fails", rule: `action: set, fields: {amount: '1 / (message.amount - message.amount)'}`, code: codes.Internal},
}

func onHit(direction, rule string) string {
	return fmt.Sprintf("struct: {rules: [{on: %s, when: 'message.name == \"hit\"', %s}]}", direction, rule)
}

func TestStruct_ActionsOnTheMessageOfAUnaryCall(t *testing.T) {
	t.Parallel()
	for _, a := range actions {
		for _, direction := range []string{"request", "response"} {
			t.Run(a.name+" "+direction, func(t *testing.T) {
				backend := newWitness()
				s, cc := startShop(t, onHit(direction, a.rule), backend.serve)
				in := order(t, s, map[string]any{"name": "hit", "amount": int64(7), "card": "4111"})
				before := order(t, s, map[string]any{"name": "before"})
				out, err := handlertest.Unary(t.Context(), cc, "/shop.Shop/Say", before)
				require.NoError(t, err)
				require.Equal(t, before, out)

				var trailer metadata.MD
				out, err = handlertest.Unary(t.Context(), cc, "/shop.Shop/Say", in, grpc.Trailer(&trailer))
				if a.code == codes.OK {
					require.NoError(t, err)
					require.Empty(t, trailer.Get(local.ReasonTrailer))
					require.Equal(t, a.after, decoded(t, s, out))
				} else {
					requireRefused(t, a.code, a.message, direction, err, trailer)
				}
				switch got := backend.messages(); {
				case direction == "response":
					require.Equal(t, [][]byte{before, in}, got, "the rule does not look at requests")
				case a.code != codes.OK:
					require.Equal(t, [][]byte{before}, got)
				default:
					require.Equal(t, [][]byte{before, out}, got)
				}

				after := order(t, s, map[string]any{"name": "after"})
				out, err = handlertest.Unary(t.Context(), cc, "/shop.Shop/Say", after)
				require.NoError(t, err, "the connection goes on")
				require.Equal(t, after, out)
			})
		}
	}
}

// requireRefused checks the end of a call that a rule refused or failed at. An empty message stands for that of a rule
// that failed.
func requireRefused(t *testing.T, code codes.Code, message, direction string, err error, trailer metadata.MD) {
	t.Helper()
	st := status.Convert(err)
	require.Equal(t, code, st.Code(), st.Message())
	if message == "" {
		require.Equal(t, []string{"rule_failed"}, trailer.Get(local.ReasonTrailer))
		require.Contains(t, st.Message(), "framegate: "+direction+": ")
		if direction == "request" { // what is wrong with an answer is none of the client's business: it may quote it
			require.Contains(t, st.Message(), "division by zero")
		}
		return
	}
	require.Equal(t, []string{"rejected"}, trailer.Get(local.ReasonTrailer))
	if message == "framegate: %s refused by a rule" {
		message = fmt.Sprintf(message, direction)
	}
	require.Equal(t, message, st.Message())
}

func TestStruct_ActionsOnAMessageOfAStream(t *testing.T) {
	t.Parallel()
	for _, a := range actions {
		for _, direction := range []string{"request", "response"} {
			for _, at := range []int{0, 2} {
				t.Run(fmt.Sprintf("%s %s %d", a.name, direction, at), func(t *testing.T) {
					backend := newWitness()
					s, cc := startShop(t, onHit(direction, a.rule), backend.serve)
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					stream, err := handlertest.Open(ctx, cc, "/shop.Shop/Chat")
					require.NoError(t, err)
					var sent, got [][]byte
					var hit []byte
					for i := range 5 {
						m := order(t, s, map[string]any{"name": fmt.Sprint(i), "amount": int64(i)})
						if i == at {
							m = order(t, s, map[string]any{"name": "hit", "amount": int64(7), "card": "4111"})
						}
						require.NoError(t, stream.SendMsg(&m))
						if i == at && a.dropped {
							if direction == "response" {
								sent = append(sent, m)
							}
							continue
						}
						var reply []byte
						err := stream.RecvMsg(&reply)
						if i == at && a.code != codes.OK {
							requireRefused(t, a.code, a.message, direction, err, stream.Trailer())
							if direction == "response" || at > 0 {
								requireCanceled(t, backend)
							}
							if direction == "response" {
								sent = append(sent, m)
							}
							require.Equal(t, sent, backend.messages())
							return
						}
						require.NoError(t, err)
						if i == at {
							require.Equal(t, a.after, decoded(t, s, reply))
							hit = reply
						} else {
							require.Equal(t, m, reply, "not a message of the rule")
						}
						got = append(got, reply)
						if i == at && direction == "request" {
							m = hit
						}
						sent = append(sent, m)
					}
					require.NoError(t, stream.CloseSend())
					var more []byte
					require.ErrorIs(t, stream.RecvMsg(&more), io.EOF)
					require.Empty(t, stream.Trailer().Get(local.ReasonTrailer))
					require.Equal(t, sent, backend.messages())
					if a.dropped {
						require.Len(t, got, 4)
					}
				})
			}
		}
	}
}

// requireCanceled waits for the end of the backend's context.
func requireCanceled(t *testing.T, backend *witness) {
	t.Helper()
	select {
	case <-backend.canceled:
	case <-time.After(200 * time.Millisecond):
		require.Fail(t, "the call went on at the backend for 200 ms")
	}
}

func TestStruct_DropsEveryMessageOfAStreamAndEndsItWell(t *testing.T) {
	t.Parallel()
	for _, direction := range []string{"request", "response"} {
		t.Run(direction, func(t *testing.T) {
			backend := newWitness()
			s, cc := startShop(t, "struct: {rules: [{on: "+direction+", action: drop}]}", backend.serve)
			stream, err := handlertest.Open(t.Context(), cc, "/shop.Shop/Chat")
			require.NoError(t, err)
			for range 100 {
				m := order(t, s, map[string]any{"name": "x"})
				require.NoError(t, stream.SendMsg(&m))
			}
			require.NoError(t, stream.CloseSend())
			var reply []byte
			require.ErrorIs(t, stream.RecvMsg(&reply), io.EOF)
			if direction == "request" {
				require.Empty(t, backend.messages())
			} else {
				require.Len(t, backend.messages(), 100)
			}
		})
	}
}

const anyProto = `syntax = "proto3";
package shop;
import "google/protobuf/any.proto";
message Order {
  string name = 1;
  google.protobuf.Any extra = 2;
}
service Shop { rpc Say(Order) returns (Order); }`

// startRoutes runs a Proxy with a routes file, whose routes may name the schema file order.proto.
func startRoutes(t testing.TB, source, routes string, filters ...structmode.MethodFilter) (*handler.Proxy, *grpc.ClientConn) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "routes.yaml")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "order.proto"), []byte(source), 0o600))
	require.NoError(t, os.WriteFile(path, []byte(routes), 0o600))
	r := resolver.New()
	f, err := filesource.Load(t.Context(), path, r, structmode.CompileRoute, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	f.Apply()
	return handlertest.Start(t, handler.Config{Router: r, Filters: filters})
}

func TestStruct_KeepsAnAnyOfATypeItDoesNotKnow(t *testing.T) {
	t.Parallel()
	backend := newWitness()
	_, cc := startRoutes(t, anyProto, `{routes: [{name: r, mode: struct, schema: {files: [order.proto]}, match: [{method: /shop.Shop/*}],
  backends: [{endpoints: [{address: "`+handlertest.Backend(t, backend.serve)+`"}]}], struct: {rules: [{on: request, action: set, fields: {name: '"new"'}}]}}]}`)
	extra := "\x12\x0e\x0a\x07x/y.Odd\x12\x03\xff\xff\xff" // value is no message at all
	unknown := "\xa2\x06\x03new"
	out, err := handlertest.Unary(t.Context(), cc, "/shop.Shop/Say", []byte("\x0a\x03old"+extra+unknown))
	require.NoError(t, err)
	require.Contains(t, string(out), "\x0a\x03new")
	require.Contains(t, string(out), extra)
	require.True(t, strings.HasSuffix(string(out), unknown))
	require.Len(t, out, len("\x0a\x03new"+extra+unknown))
}

// silent is a listener that counts connections and answers none.
func silent(t testing.TB) (address string, connections *atomic.Int64) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	connections = new(atomic.Int64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return ln.Addr().String(), connections
}

// twoBackends is a routes file with the default backend main and the backend gold of weight 0.
func twoBackends(main, gold, rest string) string {
	return `{routes: [{name: r, mode: struct, schema: {files: [order.proto]}, match: [{method: /shop.Shop/*}],
  backends: [{name: main, endpoints: [{address: "` + main + `"}]}, {name: gold, weight: 0, endpoints: [{address: "` + gold + `"}]}], ` + rest + `}]}`
}

func TestStruct_FirstMessagePicksTheBackend(t *testing.T) {
	t.Parallel()
	s := orders(t)
	gold := newWitness()
	main, connections := silent(t)
	_, cc := startRoutes(t, orderProto, twoBackends(main, handlertest.Backend(t, gold.serve), `struct: {rules: [
  {on: request, when: 'message.tier == "gold"', action: route, backend: gold},
  {on: request, action: header, set: {x-name: 'message.name', x-old: '"new"', x-from: 'metadata["x-in"]'}},
  {on: request, when: 'message.name == "change"', action: set, fields: {name: '"changed"'}}]}`))
	md := metadata.Pairs("x-old", "a", "x-old", "b", "x-in", "c", "x-in", "d", "x-bin", "\x00\xff")
	ctx := metadata.NewOutgoingContext(t.Context(), md)

	in := order(t, s, map[string]any{"name": "ann", "tier": "gold"})
	out, err := handlertest.Unary(ctx, cc, "/shop.Shop/Say", in)
	require.NoError(t, err)
	require.Equal(t, in, out)
	got := gold.metadata()
	require.Equal(t, []string{"ann"}, got.Get("x-name"))
	require.Equal(t, []string{"new"}, got.Get("x-old"))
	require.Equal(t, []string{"c,d"}, got.Get("x-from"))
	require.Equal(t, []string{"c", "d"}, got.Get("x-in"))
	require.Equal(t, []string{"\x00\xff"}, got.Get("x-bin"))

	// A stream: later messages decide nothing, and the first may be changed too.
	stream, err := handlertest.Open(ctx, cc, "/shop.Shop/Chat")
	require.NoError(t, err)
	for i, fields := range []map[string]any{{"name": "change", "tier": "gold"}, {"name": "second", "tier": "none"}, {"name": "third"}} {
		m := order(t, s, fields)
		require.NoError(t, stream.SendMsg(&m))
		var reply []byte
		require.NoError(t, stream.RecvMsg(&reply))
		if i == 0 {
			require.Equal(t, map[string]any{"name": "changed", "tier": "gold", "unknown": unknownField}, decoded(t, s, reply))
		} else {
			require.Equal(t, m, reply)
		}
	}
	require.NoError(t, stream.CloseSend())
	var reply []byte
	require.ErrorIs(t, stream.RecvMsg(&reply), io.EOF)
	require.Equal(t, []string{"change"}, gold.metadata().Get("x-name"))
	require.Zero(t, connections.Load(), "connections to the default backend")
}

func TestStruct_CallWithoutARouteRuleThatFiresGoesToTheDefault(t *testing.T) {
	t.Parallel()
	s := orders(t)
	main := newWitness()
	gold, connections := silent(t)
	_, cc := startRoutes(t, orderProto, twoBackends(handlertest.Backend(t, main.serve), gold,
		`struct: {rules: [{on: request, when: 'message.tier == "gold"', action: route, backend: gold}]}`))
	in := order(t, s, map[string]any{"tier": "none"})
	out, err := handlertest.Unary(t.Context(), cc, "/shop.Shop/Say", in)
	require.NoError(t, err)
	require.Equal(t, in, out)
	require.Zero(t, connections.Load(), "connections to the other backend")
}

func TestStruct_FirstMessageThatIsRefusedOpensNothing(t *testing.T) {
	t.Parallel()
	s := orders(t)
	main, connections := silent(t)
	_, cc := startRoutes(t, orderProto, twoBackends(main, main, `struct: {rules: [
  {on: request, action: header, set: {x-name: 'message.name'}}, {on: request, action: reject}]}`))
	for _, method := range []string{"/shop.Shop/Say", "/shop.Shop/Chat"} {
		var trailer metadata.MD
		_, err := handlertest.Unary(t.Context(), cc, method, order(t, s, map[string]any{"name": "x"}), grpc.Trailer(&trailer))
		require.Equal(t, codes.PermissionDenied, status.Code(err))
		require.Equal(t, []string{"rejected"}, trailer.Get(local.ReasonTrailer))
		_, err = handlertest.Unary(t.Context(), cc, method, order(t, s, map[string]any{"name": "\n"}), grpc.Trailer(&trailer))
		require.Equal(t, codes.Internal, status.Code(err), "no value of a header")
		require.Equal(t, []string{"rule_failed"}, trailer.Get(local.ReasonTrailer))
		_, err = handlertest.Unary(t.Context(), cc, method, []byte{0xff}, grpc.Trailer(&trailer))
		require.Equal(t, codes.InvalidArgument, status.Code(err))
		require.Equal(t, []string{"decode_failed"}, trailer.Get(local.ReasonTrailer))
	}
	require.Zero(t, connections.Load())
}

func newOrder(s *schema.Schema) *dynamicpb.Message {
	return dynamicpb.NewMessage(s.Method("/shop.Shop/Say").Input())
}
