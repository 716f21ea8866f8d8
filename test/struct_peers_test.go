package test

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/framegate/framegate/kitex_gen/echo"
	"github.com/framegate/framegate/test/testbed"
)

// ruled leads through a route in struct mode with the schema in the files and these rules, a YAML flow list.
func ruled(files []string, rules string) via {
	return func(t testing.TB, backend string) string {
		t.Helper()
		return testbed.NewProxy(t, testbed.RuledRouteTo(backend, files, rules)).Addr
	}
}

const kitexRules = `[
{on: request, when: 'message.message == "blocked"', action: reject, status: {code: UNAUTHENTICATED, message: "not today"}},
{on: request, when: 'message.message == "spam"', action: drop, status: {code: ABORTED}},
{on: request, action: set, fields: {message: '"<" + message.message + ">"'}},
{on: request, action: header, set: {x-message: 'message.message'}},
{on: response, when: 'message.index == 1', action: clear, fields: [payload]},
{on: response, action: set, fields: {message: 'message.message + "!"'}}]`

// A Kitex client of a Kitex server, and rules between them that change what both say.
func TestStruct_RulesBetweenKitexPeers(t *testing.T) {
	t.Parallel()
	header := make(chan []string, 1)
	to := ruled([]string{testbed.EchoProto(t)}, kitexRules)
	c := kitexPair(t, to, &testbed.Echo{OnSay: func(ctx context.Context, req *echo.Request) (*echo.Reply, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		header <- md.Get("x-message")
		if req.Message == "<fail>" {
			return nil, notFound()
		}
		return &echo.Reply{Message: req.Message, Payload: req.Payload, Index: 1}, nil
	}})

	t.Run("unary", func(t *testing.T) {
		reply, err := c.Say(patient(t), &echo.Request{Message: "hello", Payload: []byte("secret"), Count: 7})
		require.NoError(t, err)
		require.Equal(t, "<hello>!", reply.Message)
		require.Empty(t, reply.Payload, "a payload that a rule clears")
		require.EqualValues(t, 1, reply.Index)
		require.Equal(t, []string{"<hello>"}, testbed.Await(t, header, "the header of a rule"))
	})
	t.Run("unary rejected", func(t *testing.T) {
		_, err := c.Say(patient(t), &echo.Request{Message: "blocked"})
		st, ok := status.FromError(err)
		require.True(t, ok, "a status; got %T %v", err, err)
		require.Equal(t, codes.Unauthenticated, st.Code())
		require.Equal(t, "framegate: not today", st.Message())
	})
	t.Run("unary dropped", func(t *testing.T) {
		_, err := c.Say(patient(t), &echo.Request{Message: "spam"})
		require.Equal(t, codes.Aborted, status.Code(err), "%v", err)
	})
	t.Run("business error", func(t *testing.T) {
		_, err := c.Say(patient(t), &echo.Request{Message: "fail"})
		wantNotFound(t, err)
	})
	t.Run("client streaming", func(t *testing.T) {
		stream, err := c.Collect(patient(t))
		require.NoError(t, err)
		for _, m := range []string{"a", "spam", "b", "c"} {
			require.NoError(t, stream.Send(&echo.Request{Message: m}))
		}
		reply, err := stream.CloseAndRecv()
		require.NoError(t, err)
		require.Equal(t, "<a><b><c>!", reply.Message)
		require.EqualValues(t, 3, reply.Index, "messages that came")
	})
	t.Run("client streaming, all dropped", func(t *testing.T) {
		stream, err := c.Collect(patient(t))
		require.NoError(t, err)
		for range 3 {
			require.NoError(t, stream.Send(&echo.Request{Message: "spam"}))
		}
		reply, err := stream.CloseAndRecv()
		require.NoError(t, err)
		require.Equal(t, "!", reply.Message)
		require.EqualValues(t, 0, reply.Index, "messages that came")
	})
	t.Run("server streaming", func(t *testing.T) {
		stream, err := c.Stream(patient(t), &echo.Request{Message: "again", Payload: []byte("secret"), Count: 3})
		require.NoError(t, err)
		for i := range 3 {
			reply, err := stream.Recv()
			require.NoError(t, err)
			require.Equal(t, "<again>!", reply.Message)
			require.Equal(t, i != 1, len(reply.Payload) > 0, "payload of message %d", i)
		}
		_, err = stream.Recv()
		require.Equal(t, io.EOF, err)
	})
	t.Run("bidi", func(t *testing.T) {
		stream, err := c.Chat(patient(t))
		require.NoError(t, err)
		for i := range 10 {
			require.NoError(t, stream.Send(&echo.Request{Message: "spam"}))
			require.NoError(t, stream.Send(&echo.Request{Message: fmt.Sprint("message ", i)}))
			reply, err := stream.Recv()
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("<message %d>!", i), reply.Message)
		}
		require.NoError(t, stream.Send(&echo.Request{Message: "blocked"}))
		_, err = stream.Recv()
		require.Equal(t, codes.Unauthenticated, status.Code(err), "%v", err)
	})
}

const ordersV1 = `package shop;
message Order { string name = 1; User user = 2; repeated Line lines = 3; map<string, User> people = 4; Kind kind = 5; }
message User { string email = 1; }
message Line { string item = 1; }
enum Kind { NONE = 0; GIFT = 1; }
service Orders { rpc Put(Order) returns (Order); rpc Many(stream Order) returns (stream Order); }
`

const ordersV2 = `package shop;
message Order {
  string name = 1; User user = 2; repeated Line lines = 3; map<string, User> people = 4; Kind kind = 5;
  int64 total = 6; repeated sint32 codes = 7; oneof paid { Card card = 8; string cash = 9; } bytes blob = 1000; double rate = 536870911;
}
message User { string email = 1; string phone = 2; User manager = 3; }
message Line { string item = 1; fixed32 count = 2; }
message Card { string number = 1; }
enum Kind { NONE = 0; GIFT = 1; LOAN = 2; }
service Orders { rpc Put(Order) returns (Order); rpc Many(stream Order) returns (stream Order); }
`

// The peers are a version ahead of the framegate between them: rules change what it knows, and nothing of the rest is
// lost, at any depth.
func TestStruct_UnknownFieldsSurviveRules(t *testing.T) {
	t.Parallel()
	v2 := schemaOf(t, ordersV2)
	order := func(json string) proto.Message {
		m := dynamicpb.NewMessage(v2.Method("/shop.Orders/Put").Input())
		require.NoError(t, protojson.Unmarshal([]byte(json), m))
		return m
	}
	const rest = `"total": "77", "codes": [1, -2, 300], "card": {"number": "4711"}, "blob": "AP8=", "rate": 2.5, "kind": "LOAN"`
	sent := order(`{"name": "n", "user": {"email": "e", "phone": "p", "manager": {"email": "m", "phone": "q"}},
"lines": [{"item": "a", "count": 2}, {"item": "b", "count": 3}], "people": {"x": {"email": "e1", "phone": "p1"}}, ` + rest + `}`)
	atServer := order(`{"name": "N", "user": {"email": "[REDACTED]", "phone": "p", "manager": {"email": "m", "phone": "q"}},
"lines": [{"item": "i", "count": 2}, {"item": "i", "count": 3}], "people": {"x": {"email": "[REDACTED]", "phone": "p1"}}, ` + rest + `}`)
	atClient := order(`{"name": "N back", "user": {"email": "[REDACTED]", "phone": "p", "manager": {"email": "m", "phone": "q"}},
"lines": [{"item": "i", "count": 2}, {"item": "i", "count": 3}], "people": {"x": {"phone": "p1"}}, ` + rest + `}`)

	got := make(chan proto.Message, 1)
	backend := testbed.NewRaw(t, func(stream grpc.ServerStream) error {
		for {
			m := sent.ProtoReflect().New().Interface()
			if err := stream.RecvMsg(m); err != nil {
				return endOf(err)
			}
			got <- m
			if err := stream.SendMsg(m); err != nil {
				return err
			}
		}
	}, grpc.ForceServerCodec(testbed.ProtoCodec{}))
	proxy := ruled([]string{protoFile(t, ordersV1)}, `[
{on: request, action: set, fields: {name: '"N"', "lines[].item": '"i"'}},
{on: request, action: redact, fields: [user.email, "people[].email"]},
{on: response, action: set, fields: {name: 'message.name + " back"'}},
{on: response, action: clear, fields: ['people["x"].email']}]`)(t, backend)
	cc, err := grpc.NewClient(proxy, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = cc.Close() })

	t.Run("unary", func(t *testing.T) {
		reply := sent.ProtoReflect().New().Interface()
		require.NoError(t, cc.Invoke(patient(t), "/shop.Orders/Put", sent, reply))
		wantProto(t, testbed.Await(t, got, "the request"), atServer)
		wantProto(t, reply, atClient)
	})
	t.Run("bidi", func(t *testing.T) {
		stream, err := cc.NewStream(patient(t), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/shop.Orders/Many")
		require.NoError(t, err)
		for range 3 {
			require.NoError(t, stream.SendMsg(sent))
			reply := sent.ProtoReflect().New().Interface()
			require.NoError(t, stream.RecvMsg(reply))
			wantProto(t, testbed.Await(t, got, "the request"), atServer)
			wantProto(t, reply, atClient)
		}
	})
}

func wantProto(t testing.TB, got, want proto.Message) {
	t.Helper()
	if !proto.Equal(got, want) {
		t.Errorf("got %s, want %s", protojson.Format(got), protojson.Format(want))
	}
}
