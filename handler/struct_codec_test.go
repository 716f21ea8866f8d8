package handler_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // registers gzip with grpc-go

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/handler/kitexstream"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/handler/structmode/compress"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/schema"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/testbed"
)

// rawShop is a route in struct mode between two peers that see bytes.
type rawShop struct {
	schema *schema.Schema
	proxy  *handler.Proxy
	client *testbed.H2Conn
	server *testbed.H2Server
}

// startRawShop runs a Proxy for a route with those rules. cfg has no Router.
func startRawShop(t testing.TB, rules string, cfg handler.Config) rawShop {
	t.Helper()
	kitexstream.RegisterEncodings(nil)
	server := testbed.NewH2Server(t)
	s, doc := orders(t), parseRoute(t, rules)
	prog, err := structmode.CompileRoute(doc, s)
	require.NoError(t, err)
	target := cluster.Target{Route: "r", Mode: spec.ModeStruct, Program: prog, Address: server.Addr, Timeout: doc.Timeout}
	cfg.Router = handlertest.To(target)
	p, cc := handlertest.Start(t, cfg)
	client := testbed.DialH2(t, strings.TrimPrefix(cc.Target(), "passthrough:///"))
	return rawShop{schema: s, proxy: p, client: client, server: server}
}

// parseRoute is a route in struct mode with those rules.
func parseRoute(t testing.TB, rules string) *spec.Route {
	t.Helper()
	doc, err := spec.ParseRoute([]byte("name: r\nmode: struct\nschema: {name: shop}\nmatch: [{method: /shop.Shop/*}]\n" +
		"backends: [{name: main, endpoints: [{address: \"h:1\"}]}]\n" + rules))
	require.NoError(t, err)
	return doc
}

func chat(pairs ...string) testbed.Fields {
	return testbed.RequestFields(pairs...).Replace(":path", "/shop.Shop/Chat")
}

// open opens a call and returns both of its ends, and the request headers.
func (s rawShop) open(t testing.TB, fields testbed.Fields) (cs, ss *testbed.H2Stream, request testbed.Fields) {
	t.Helper()
	cs = s.client.Open(t, fields)
	ss = s.server.Accept(t)
	return cs, ss, ss.ReadHeaders()
}

// refused sends a message of a request and returns how the call ended.
func (s rawShop) refused(t testing.TB, fields testbed.Fields, m testbed.Message) testbed.Outcome {
	t.Helper()
	cs := s.client.Open(t, fields)
	_ = cs.TrySend(m.Bytes()) // the call may end before all of it is sent
	return cs.Outcome()
}

func requireLocal(t testing.TB, o testbed.Outcome, code codes.Code, reason string) {
	t.Helper()
	require.Equal(t, int(code), o.Code(), o.String())
	require.Equal(t, reason, o.Reason(), o.String())
	require.Regexp(t, "^framegate: ", o.Message())
}

// compressed encodes a message.
func compressed(t testing.TB, name string, plain []byte) testbed.Message {
	t.Helper()
	c, ok := compress.Get(name)
	require.True(t, ok)
	b, err := c.Compress(nil, plain)
	require.NoError(t, err)
	return testbed.Message{Flag: 1, Payload: b}
}

// inflated is the order in a compressed message.
func inflated(t testing.TB, s *schema.Schema, name string, m testbed.Message) map[string]any {
	t.Helper()
	require.EqualValues(t, 1, m.Flag)
	c, _ := compress.Get(name)
	plain, err := c.Decompress(m.Payload, 0)
	require.NoError(t, err)
	return decoded(t, s, plain)
}

const bothWays = `struct: {rules: [
  {on: request, when: 'message.name == "hit"', action: set, fields: {tier: '"in"'}},
  {on: response, when: 'message.name == "hit"', action: set, fields: {tier: '"out"'}}]}`

func TestStruct_CompressedMessagesKeepTheirEncoding(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"gzip", "deflate", "snappy", "zstd"} {
		t.Run(name, func(t *testing.T) {
			shop := startRawShop(t, bothWays, handler.Config{MaxMessageBytes: 4 << 20})
			hit := order(t, shop.schema, map[string]any{"name": "hit", "card": strings.Repeat("4111", 5000)})
			other := order(t, shop.schema, map[string]any{"name": "other", "card": strings.Repeat("4111", 5000)})
			cs, ss, request := shop.open(t, chat("grpc-encoding", name))
			require.Equal(t, []string{name}, request.Values("grpc-encoding"))
			ss.SendHeaders(testbed.ResponseFields("grpc-encoding", name))
			for _, dir := range []struct {
				from, to *testbed.H2Stream
				tier     string
			}{{cs, ss, "in"}, {ss, cs, "out"}} {
				if dir.to == cs {
					require.Equal(t, []string{name}, cs.ReadHeaders().Values("grpc-encoding"))
				}
				for range 2 {
					unchanged := compressed(t, name, other)
					dir.from.Send(unchanged.Bytes())
					m, err := dir.to.ReadMessage()
					require.NoError(t, err)
					require.True(t, bytes.Equal(unchanged.Bytes(), m.Bytes()), "no rule changed it")

					dir.from.Send(compressed(t, name, hit).Bytes())
					m, err = dir.to.ReadMessage()
					require.NoError(t, err)
					got := inflated(t, shop.schema, name, m)
					require.Equal(t, dir.tier, got["tier"])
					require.Equal(t, unknownField, got["unknown"])
					require.Len(t, got["card"], 20_000)
					require.Less(t, len(m.Payload), 5000, "bytes of it")

					dir.from.Send(testbed.Frame(hit)) // both kinds may follow each other
					m, err = dir.to.ReadMessage()
					require.NoError(t, err)
					require.Zero(t, m.Flag)
					require.Equal(t, dir.tier, decoded(t, shop.schema, m.Payload)["tier"])
				}
			}
			cs.SendEnd(nil)
			ss.WantEnd()
			ss.SendTrailers(testbed.StatusFields(0, ""))
			require.Zero(t, cs.Outcome().Code())
		})
	}
}

func TestStruct_DirectionsHaveEncodingsOfTheirOwn(t *testing.T) {
	t.Parallel()
	shop := startRawShop(t, bothWays, handler.Config{})
	hit := order(t, shop.schema, map[string]any{"name": "hit"})
	cs, ss, _ := shop.open(t, chat("grpc-encoding", "gzip"))
	cs.SendEnd(compressed(t, "gzip", hit).Bytes())
	m, err := ss.ReadMessage()
	require.NoError(t, err)
	require.Equal(t, "in", inflated(t, shop.schema, "gzip", m)["tier"])
	ss.SendHeaders(testbed.ResponseFields("grpc-encoding", "zstd"))
	ss.Send(compressed(t, "zstd", hit).Bytes())
	m, err = cs.ReadMessage() // passes the headers
	require.NoError(t, err)
	require.Equal(t, "out", inflated(t, shop.schema, "zstd", m)["tier"])
	ss.SendTrailers(testbed.StatusFields(0, ""))
	require.Zero(t, cs.Outcome().Code())
}

func TestStruct_CompressionOfGRPCGoWorks(t *testing.T) {
	t.Parallel()
	backend := newWitness()
	s, cc := startShop(t, bothWays, backend.serve)
	in := order(t, s, map[string]any{"name": "hit", "card": strings.Repeat("4111", 5000)})
	out, err := handlertest.Unary(t.Context(), cc, "/shop.Shop/Say", in, grpc.UseCompressor("gzip"))
	require.NoError(t, err)
	require.Equal(t, "in", decoded(t, s, backend.messages()[0])["tier"])
	require.Equal(t, "out", decoded(t, s, out)["tier"])
}

func TestStruct_CompressedMessagesThatCannotBeDecoded(t *testing.T) {
	t.Parallel()
	const encoded = "grpc-encoding"
	for _, c := range []struct {
		name    string
		fields  []string
		payload string
		code    codes.Code
	}{
		{"unknown encoding", []string{encoded, "br"}, "x", codes.Unimplemented},
		{"encoding with a strange name", []string{encoded, strings.Repeat("%\"z", 300)}, "x", codes.Unimplemented},
		{"no encoding", nil, "x", codes.Internal},
		{"identity", []string{encoded, "identity"}, "x", codes.Internal},
		{"garbage", []string{encoded, "gzip"}, "garbage", codes.InvalidArgument},
		{"empty", []string{encoded, "gzip"}, "", codes.InvalidArgument},
		{"garbage inside", []string{encoded, "gzip"}, string(compressed(t, "gzip", []byte{0xff}).Payload), codes.InvalidArgument},
	} {
		m := testbed.Message{Flag: 1, Payload: []byte(c.payload)}
		t.Run(c.name, func(t *testing.T) {
			shop := startRawShop(t, bothWays, handler.Config{})
			requireLocal(t, shop.refused(t, chat(c.fields...), m), c.code, "decode_failed")
		})
		t.Run(c.name+" in an answer", func(t *testing.T) {
			shop := startRawShop(t, bothWays, handler.Config{})
			cs, ss, _ := shop.open(t, chat())
			ss.SendHeaders(testbed.ResponseFields(c.fields...))
			ss.Send(m.Bytes())
			requireLocal(t, cs.Outcome(), c.code, "decode_failed")
			ss.AwaitReset()
		})
		t.Run(c.name+" passed", func(t *testing.T) {
			shop := startRawShop(t, strings.Replace(bothWays, "struct: {", "struct: {on_decode_error: pass, ", 1), handler.Config{})
			cs, ss, request := shop.open(t, chat(c.fields...))
			if len(c.fields) > 0 {
				require.Equal(t, c.fields[1:], request.Values(encoded))
			}
			cs.SendEnd(m.Bytes())
			got, err := ss.ReadMessage()
			require.NoError(t, err)
			require.Equal(t, m.Bytes(), got.Bytes())
			ss.SendHeaders(testbed.ResponseFields(c.fields...))
			ss.Send(m.Bytes())
			ss.SendTrailers(testbed.StatusFields(0, ""))
			o := cs.Outcome()
			require.Zero(t, o.Code(), o.String())
			require.Equal(t, m.Bytes(), o.Body)
		})
	}
}

func TestStruct_OffersTheEndpointOnlyEncodingsItKnows(t *testing.T) {
	t.Parallel()
	for rules, want := range map[string]string{
		bothWays: "gzip,zstd,identity",
		strings.Replace(bothWays, "struct: {", "struct: {on_decode_error: pass, ", 1): "gzip,br, zstd,identity",
	} {
		shop := startRawShop(t, rules, handler.Config{})
		for _, pairs := range [][]string{nil, {"grpc-encoding", "gzip"}} {
			_, _, request := shop.open(t, chat("grpc-accept-encoding", "gzip,br, zstd,identity").With(pairs...))
			require.Equal(t, []string{want}, request.Values("grpc-accept-encoding"))
		}
	}
}

// bomb is 1 GiB of zeros.
func bomb(t testing.TB) []byte {
	t.Helper()
	var part bytes.Buffer
	w := gzip.NewWriter(&part)
	zeros := make([]byte, 1<<20)
	for range 64 {
		_, err := w.Write(zeros)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return bytes.Repeat(part.Bytes(), 16) // members of one file follow each other
}

func TestStruct_BombIsRefusedWithoutTheMemoryForIt(t *testing.T) {
	m := testbed.Message{Flag: 1, Payload: bomb(t)}
	for _, pass := range []string{"reject", "pass"} {
		for _, direction := range []string{"request", "response"} {
			t.Run(direction+" "+pass, func(t *testing.T) {
				shop := startRawShop(t, strings.Replace(bothWays, "struct: {", "struct: {on_decode_error: "+pass+", ", 1), handler.Config{MaxMessageBytes: 4 << 20})
				cs, ss, _ := shop.open(t, chat("grpc-encoding", "gzip"))
				from := cs
				if direction == "response" {
					from = ss
					ss.SendHeaders(testbed.ResponseFields("grpc-encoding", "gzip"))
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				from.Send(m.Bytes())
				requireLocal(t, cs.Outcome(), codes.ResourceExhausted, "message_too_large")
				runtime.ReadMemStats(&after)
				require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20), "bytes allocated")
				ss.AwaitReset()
			})
		}
	}
}

func TestStruct_RuleCannotMakeAMessageOverTheLimit(t *testing.T) {
	t.Parallel()
	shop := startRawShop(t, `struct: {rules: [{on: request, action: set, fields: {card: 'message.card + message.card'}}]}`, handler.Config{MaxMessageBytes: 5000})
	m := testbed.Frame(order(t, shop.schema, map[string]any{"card": strings.Repeat("4", 3000)}))
	cs, ss, _ := shop.open(t, chat())
	cs.Send(m)
	requireLocal(t, cs.Outcome(), codes.ResourceExhausted, "message_too_large")
	ss.AwaitReset()
}

func subtype(name string) testbed.Fields {
	return chat().Replace("content-type", "application/grpc"+name)
}

func TestStruct_RulesWorkOnJSON(t *testing.T) {
	t.Parallel()
	shop := startRawShop(t, bothWays, handler.Config{})
	cs, ss, request := shop.open(t, subtype("+json").With("grpc-encoding", "gzip"))
	require.Equal(t, "application/grpc+json", request.Get("content-type"))
	unchanged := "{ \"name\" : \"x\", \"amount\": 7, \"newer\": [1, {}] }\n"
	cs.Send(testbed.Frame([]byte(unchanged)))
	ss.WantMessage(unchanged)
	cs.Send(testbed.Frame([]byte(`{"name": "hit", "amount": "9007199254740993"}`)))
	m, err := ss.ReadMessage()
	require.NoError(t, err)
	require.JSONEq(t, `{"name": "hit", "amount": "9007199254740993", "tier": "in"}`, string(m.Payload))
	cs.Send(compressed(t, "gzip", []byte(`{"name": "hit"}`)).Bytes())
	m, err = ss.ReadMessage()
	require.NoError(t, err)
	require.EqualValues(t, 1, m.Flag)
	codec, _ := compress.Get("gzip")
	plain, err := codec.Decompress(m.Payload, 0)
	require.NoError(t, err)
	require.JSONEq(t, `{"name": "hit", "tier": "in"}`, string(plain))

	ss.SendHeaders(testbed.ResponseFields().Replace("content-type", "application/grpc+json"))
	ss.Send(testbed.Frame([]byte(`{"name": "hit"}`)))
	m, err = cs.ReadMessage()
	require.NoError(t, err)
	require.JSONEq(t, `{"name": "hit", "tier": "out"}`, string(m.Payload))
	cs.SendEnd(nil)
	ss.WantEnd()
	ss.SendTrailers(testbed.StatusFields(0, ""))
	require.Zero(t, cs.Outcome().Code())
}

func TestStruct_JSONWithAKeyThatWouldBeLostIsNotChanged(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"reject", "pass"} {
		shop := startRawShop(t, strings.Replace(bothWays, "struct: {", "struct: {on_decode_error: "+policy+", ", 1), handler.Config{})
		for _, bad := range []string{`{"name": "hit", "newer": 1}`, `{"name": "hit", "card": "1", "newer": null}`} {
			requireLocal(t, shop.refused(t, subtype("+json"), testbed.Message{Payload: []byte(bad)}), codes.InvalidArgument, "decode_failed")
		}
	}
}

func TestStruct_MessagesThatAreNoJSON(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "{", "null x", `{"name": 1}`, `{"name": "a", "name": "b"}`, strings.Repeat(`{"a":`, 20_000), "\xff"} {
		shop := startRawShop(t, bothWays, handler.Config{})
		requireLocal(t, shop.refused(t, subtype("+json"), testbed.Message{Payload: []byte(bad)}), codes.InvalidArgument, "decode_failed")
	}
}

func TestStruct_SubtypesItDoesNotKnow(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"+thrift", "+PROTO", "+" + strings.Repeat("x", 1000)} {
		t.Run(name[:5], func(t *testing.T) {
			shop := startRawShop(t, bothWays, handler.Config{})
			o := shop.refused(t, subtype(name), testbed.Message{})
			requireLocal(t, o, codes.Unimplemented, "decode_failed")
			require.Less(t, len(o.Message()), 500)

			shop = startRawShop(t, strings.Replace(bothWays, "struct: {", "struct: {on_decode_error: pass, ", 1), handler.Config{})
			cs, ss, _ := shop.open(t, subtype(name))
			cs.SendEnd(testbed.Frame([]byte{0xff}))
			ss.WantMessage("\xff")
		})
	}
	for _, name := range []string{"", "+proto"} {
		shop := startRawShop(t, bothWays, handler.Config{})
		cs, ss, _ := shop.open(t, subtype(name))
		cs.SendEnd(testbed.Frame(order(t, shop.schema, map[string]any{"name": "hit"})))
		m, err := ss.ReadMessage()
		require.NoError(t, err)
		require.Equal(t, "in", decoded(t, shop.schema, m.Payload)["tier"])
	}
}

func TestStruct_MessagesThatCannotBeDecoded(t *testing.T) {
	t.Parallel()
	deep := []byte{}
	for range 20_000 {
		deep = append(deep, 0xa3, 0x06) // groups of field 100, never ended
	}
	for i, bad := range [][]byte{{0xff}, {0x0a, 5, 'x'}, {0x0a, 1, 0xff}, {0}, {0x0c}, deep} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			m := testbed.Message{Payload: bad}
			shop := startRawShop(t, bothWays, handler.Config{})
			requireLocal(t, shop.refused(t, chat(), m), codes.InvalidArgument, "decode_failed")

			shop = startRawShop(t, bothWays, handler.Config{})
			cs, ss, _ := shop.open(t, chat())
			ss.SendHeaders(testbed.ResponseFields())
			ss.Send(m.Bytes())
			requireLocal(t, cs.Outcome(), codes.InvalidArgument, "decode_failed")

			shop = startRawShop(t, strings.Replace(bothWays, "struct: {", "struct: {on_decode_error: pass, ", 1), handler.Config{})
			cs, ss, _ = shop.open(t, chat())
			cs.Send(m.Bytes())
			cs.SendEnd(testbed.Frame(order(t, shop.schema, map[string]any{"name": "hit"}))) // the next one meets the rules
			ss.WantMessage(string(bad))
			next, err := ss.ReadMessage()
			require.NoError(t, err)
			require.Equal(t, "in", decoded(t, shop.schema, next.Payload)["tier"])
			_, err = ss.ReadMessage()
			require.ErrorIs(t, err, io.EOF)
		})
	}
}
