package handler_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	kcodes "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	kmetadata "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	kstatus "github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/kitex_gen/echo"
	v1 "github.com/framegate/framegate/kitex_gen/grpc/health/v1"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/testlog"
)

// startFiltered runs a Proxy for a route in struct mode without schema and rules, in front of h.
func startFiltered(t testing.TB, h func(grpc.ServerStream) error, cfg handler.Config) *grpc.ClientConn {
	t.Helper()
	doc, err := spec.ParseRoute([]byte("name: r\nmode: struct\nmatch: [{method: /echo.Echo/*}]\nbackends: [{endpoints: [{address: \"h:1\"}]}]\n"))
	require.NoError(t, err)
	prog, err := structmode.CompileRoute(doc, nil)
	require.NoError(t, err)
	cfg.Router = handlertest.To(cluster.Target{Route: "r", Mode: spec.ModeStruct, Program: prog, Address: handlertest.Backend(t, h)})
	_, cc := handlertest.Start(t, cfg)
	return cc
}

// request is the encoding of an echo.Request with that message, and with a field that the type does not know. It also
// is a wrapperspb.StringValue.
func request(message string) []byte {
	return append([]byte{0xa2, 0x06, 3, 'n', 'e', 'w', 0x0a, byte(len(message))}, message...)
}

// outcomes are what a filter may do with a message of that name.
func outcome(name string) (message string, drop bool, err error) {
	switch name {
	case "change":
		return "changed", false, nil
	case "empty":
		return "", false, nil
	case "drop":
		return "", true, nil
	case "status":
		return "", false, kstatus.Err(kcodes.ResourceExhausted, "no more today")
	case "wrapped status":
		return "", false, fmt.Errorf("quota: %w", kstatus.Err(kcodes.ResourceExhausted, "no more today"))
	case "error":
		return "", false, errors.New("no \x00 database" + strings.Repeat("!", 1000))
	case "canceled":
		return "", false, context.Canceled
	case "panic":
		panic("filter of a test")
	}
	return name, false, nil
}

func kitexFilter(ctx context.Context, m *echo.Request) (*echo.Request, error) {
	message, drop, err := outcome(m.Message)
	if drop {
		return nil, err
	}
	m.Message = message
	return m, err
}

func kitexReplyFilter(ctx context.Context, m *echo.Reply) (*echo.Reply, error) {
	message, drop, err := outcome(m.Message)
	if drop {
		return nil, err
	}
	m.Message = message
	return m, err
}

func protobufFilter(ctx context.Context, m *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	message, drop, err := outcome(m.Value)
	if drop {
		return nil, err
	}
	m.Value = message
	return m, err
}

// filters returns the filter above for one direction of a method, with types of either generator.
func filters(t testing.TB, method string) map[string]structmode.MethodFilter {
	t.Helper()
	all := map[string]structmode.MethodFilter{}
	add := func(name string, f structmode.MethodFilter, err error) {
		require.NoError(t, err)
		all[name] = f
	}
	f, err := structmode.NewFilter(method, structmode.Filter[echo.Request, echo.Reply]{Request: kitexFilter})
	add("kitex request", f, err)
	f, err = structmode.NewFilter(method, structmode.Filter[echo.Request, echo.Reply]{Response: kitexReplyFilter})
	add("kitex response", f, err)
	f, err = structmode.NewFilter(method, structmode.Filter[wrapperspb.StringValue, wrapperspb.StringValue]{Request: protobufFilter})
	add("protobuf request", f, err)
	f, err = structmode.NewFilter(method, structmode.Filter[wrapperspb.StringValue, wrapperspb.StringValue]{Response: protobufFilter})
	add("protobuf response", f, err)
	return all
}

func TestFilter_DecidesAboutEachMessageOfItsMethod(t *testing.T) {
	t.Parallel()
	const method = "/echo.Echo/Chat"
	for name, f := range filters(t, method) {
		t.Run(name, func(t *testing.T) {
			var logged testlog.Buffer
			cc := startFiltered(t, handlertest.Echo, handler.Config{Filters: []structmode.MethodFilter{f}, Log: logged.Logger()})
			stream, err := handlertest.Open(t.Context(), cc, method)
			require.NoError(t, err)
			for _, m := range []string{"same", "change", "drop", "empty", "same again"} {
				in := request(m)
				require.NoError(t, stream.SendMsg(&in))
			}
			require.NoError(t, stream.CloseSend())
			for _, want := range []string{"same", "changed", "", "same again"} {
				var reply []byte
				require.NoError(t, stream.RecvMsg(&reply))
				require.Contains(t, string(reply), "\xa2\x06\x03new", "what the type does not know")
				m := new(echo.Request)
				require.NoError(t, m.Unmarshal(reply))
				require.Equal(t, want, m.Message)
				if strings.HasPrefix(want, "same") {
					require.Equal(t, request(want), reply)
				}
			}
			require.ErrorIs(t, stream.RecvMsg(new([]byte)), io.EOF)

			for _, c := range []struct {
				message string
				code    codes.Code
				reason  string
				says    string
			}{
				{"status", codes.ResourceExhausted, "rejected", "framegate: no more today"},
				{"error", codes.Internal, "rule_failed", "database"},
				{"canceled", codes.Internal, "rule_failed", "context canceled"},
				{"panic", codes.Internal, "internal", "framegate: internal error"},
			} {
				stream, err := handlertest.Open(t.Context(), cc, method)
				require.NoError(t, err)
				var reply []byte
				before, in := request("before"), request(c.message)
				require.NoError(t, stream.SendMsg(&before))
				require.NoError(t, stream.RecvMsg(&reply))
				require.Equal(t, before, reply)
				require.NoError(t, stream.SendMsg(&in))
				err = stream.RecvMsg(&reply)
				require.Equal(t, c.code, status.Convert(err).Code(), "%s: %v", c.message, err)
				require.Contains(t, status.Convert(err).Message(), c.says)
				require.Less(t, len(status.Convert(err).Message()), 500)
				require.Equal(t, []string{c.reason}, stream.Trailer().Get(local.ReasonTrailer))
			}
			require.Equal(t, 1, logged.Count("panic in a call"), logged.String())
		})
	}
}

func TestFilter_StatusMayBeWrapped(t *testing.T) {
	t.Parallel()
	f := filters(t, "/echo.Echo/Say")["kitex request"]
	cc := startFiltered(t, handlertest.Echo, handler.Config{Filters: []structmode.MethodFilter{f}})
	var trailer metadata.MD
	_, err := handlertest.Unary(t.Context(), cc, "/echo.Echo/Say", request("wrapped status"), grpc.Trailer(&trailer))
	require.Equal(t, codes.ResourceExhausted, status.Convert(err).Code(), err)
	require.Equal(t, []string{"rejected"}, trailer.Get(local.ReasonTrailer))
}

func TestFilter_OfAnotherMethodLeavesMessagesAlone(t *testing.T) {
	t.Parallel()
	f := filters(t, "/echo.Echo/Say")["kitex request"]
	cc := startFiltered(t, handlertest.Echo, handler.Config{Filters: []structmode.MethodFilter{f}})
	for _, in := range [][]byte{request("panic"), {0xff}} {
		out, err := handlertest.Unary(t.Context(), cc, "/echo.Echo/Chat", in)
		require.NoError(t, err)
		require.Equal(t, in, out)
	}
}

func TestFilter_RefusesWhatItsTypeCannotRead(t *testing.T) {
	t.Parallel()
	for name, f := range filters(t, "/echo.Echo/Chat") {
		cc := startFiltered(t, handlertest.Echo, handler.Config{Filters: []structmode.MethodFilter{f}})
		for _, bad := range []string{"\xff", "\x0a\x05x", "\x0a"} {
			var trailer metadata.MD
			_, err := handlertest.Unary(t.Context(), cc, "/echo.Echo/Chat", []byte(bad), grpc.Trailer(&trailer))
			require.Equal(t, codes.InvalidArgument, status.Convert(err).Code(), "%s: %v", name, err)
			require.Equal(t, []string{"decode_failed"}, trailer.Get(local.ReasonTrailer))
		}
	}
}

func TestFilter_DropOfTheOnlyMessageEndsTheCall(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"request", "response"} {
		f, err := structmode.NewFilter("/shop.Shop/Say", structmode.Filter[wrapperspb.StringValue, wrapperspb.StringValue]{Request: protobufFilter})
		if way == "response" {
			f, err = structmode.NewFilter("/shop.Shop/Say", structmode.Filter[wrapperspb.StringValue, wrapperspb.StringValue]{Response: protobufFilter})
		}
		require.NoError(t, err)
		_, cc := startShop(t, "", handlertest.Echo, f)
		var trailer metadata.MD
		_, err = handlertest.Unary(t.Context(), cc, "/shop.Shop/Say", request("drop"), grpc.Trailer(&trailer))
		require.Equal(t, codes.FailedPrecondition, status.Convert(err).Code(), err)
		require.Equal(t, "framegate: "+way+": dropped by a filter", status.Convert(err).Message())
		require.Equal(t, []string{"rejected"}, trailer.Get(local.ReasonTrailer))
	}
}

func TestFilter_SeesWhatRulesMadeOfAMessage(t *testing.T) {
	t.Parallel()
	f, err := structmode.NewFilter("/shop.Shop/Say", structmode.Filter[wrapperspb.StringValue, wrapperspb.StringValue]{
		Request: func(_ context.Context, m *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
			m.Value += " and a filter"
			return m, nil
		},
	})
	require.NoError(t, err)
	s, cc := startShop(t, `struct: {rules: [{on: request, action: set, fields: {name: '"a rule"'}}]}`, handlertest.Echo, f)
	out, err := handlertest.Unary(t.Context(), cc, "/shop.Shop/Say", order(t, s, map[string]any{"name": "x", "amount": int64(7)}))
	require.NoError(t, err)
	require.Equal(t, map[string]any{"name": "a rule and a filter", "amount": int64(7), "unknown": unknownField}, decoded(t, s, out))
}

func TestFilter_HasTheContextOfTheCall(t *testing.T) {
	t.Parallel()
	f, err := structmode.NewFilter("/echo.Echo/Say", structmode.Filter[echo.Request, echo.Reply]{
		Request: func(ctx context.Context, m *echo.Request) (*echo.Request, error) {
			md, _ := kmetadata.FromIncomingContext(ctx)
			_, deadline := ctx.Deadline()
			m.Message = fmt.Sprint(md.Get("x-tenant"), deadline)
			return m, nil
		},
	})
	require.NoError(t, err)
	cc := startFiltered(t, handlertest.Echo, handler.Config{Filters: []structmode.MethodFilter{f}})
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "x-tenant", "acme"), patience)
	defer cancel()
	out, err := handlertest.Unary(ctx, cc, "/echo.Echo/Say", request("x"))
	require.NoError(t, err)
	require.Contains(t, string(out), "[acme] true")
}

// A filter may keep its messages, and change what their slices hold.
func TestFilter_MessagesAreItsOwn(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var kept []*echo.Request
	f, err := structmode.NewFilter("/echo.Echo/Chat", structmode.Filter[echo.Request, echo.Reply]{
		Request: func(_ context.Context, m *echo.Request) (*echo.Request, error) {
			mu.Lock()
			defer mu.Unlock()
			kept = append(kept, m)
			for i := range m.Payload {
				m.Payload[i] = 'p'
			}
			return m, nil
		},
	})
	require.NoError(t, err)
	cc := startFiltered(t, handlertest.Echo, handler.Config{Filters: []structmode.MethodFilter{f}})
	stream, err := handlertest.Open(t.Context(), cc, "/echo.Echo/Chat")
	require.NoError(t, err)
	for i := range 20 {
		in := append(request(fmt.Sprintf("message %02d", i)), 0x12, 3, 'a', 'b', 'c')
		require.NoError(t, stream.SendMsg(&in))
		var reply []byte
		require.NoError(t, stream.RecvMsg(&reply))
		require.Contains(t, string(reply), "\x12\x03ppp")
		require.Contains(t, string(reply), "\xa2\x06\x03new")
	}
	require.NoError(t, stream.CloseSend())
	require.ErrorIs(t, stream.RecvMsg(new([]byte)), io.EOF)
	mu.Lock()
	defer mu.Unlock()
	for i, m := range kept {
		require.Equal(t, fmt.Sprintf("message %02d", i), m.Message)
		require.Equal(t, "ppp", string(m.Payload))
	}
}

func TestNewFilter_RefusesTypesThatWereNotGenerated(t *testing.T) {
	t.Parallel()
	type own struct{ A int }
	_, err := structmode.NewFilter("/a.B/C", structmode.Filter[own, echo.Reply]{
		Request: func(_ context.Context, m *own) (*own, error) { return m, nil },
	})
	require.ErrorContains(t, err, "filter of /a.B/C: handler_test.own, want a type that Kitex or protoc-gen-go generated")
	_, err = structmode.NewFilter("/a.B/C", structmode.Filter[own, echo.Reply]{})
	require.Error(t, err, "though no function needs it")
}

// lossy is as Kitex generates a type from a .proto that does not ask for unknown fields.
type lossy struct {
	Name string `protobuf:"bytes,1,opt,name=name"`
}

// keeping is as Kitex generates one that does, of which other messages are a part.
type keeping[T any] struct {
	Part T `protobuf:"bytes,1,opt,name=part"`
	//lint:ignore U1000 Kitex finds it by its name
	unknownFields []byte
}

func (*keeping[T]) Marshal(in []byte) ([]byte, error) { return in, nil }
func (*keeping[T]) Unmarshal([]byte) error            { return nil }

// choosing has a oneof.
type choosing struct {
	One any `protobuf_oneof:"one"`
	//lint:ignore U1000 Kitex finds it by its name
	unknownFields []byte
}

type choosingPart struct {
	Part *lossy `protobuf:"bytes,1,opt,name=part"`
}

func (*choosing) XXX_OneofWrappers() []any { return []any{(*choosingPart)(nil)} }

// What a type forgets of a message would be taken from the endpoint.
func TestNewFilter_RefusesTypesThatForgetFields(t *testing.T) {
	t.Parallel()
	const want = "want a type that keeps fields it does not know: generated from a .proto with //prutalgen:unknown_fields above its syntax"
	refuses := func(name string, err error) {
		t.Helper()
		require.EqualError(t, err, "filter of /s.S/M: "+name+", "+want)
	}
	_, err := structmode.NewFilter("/s.S/M", structmode.Filter[v1.HealthCheckRequest, echo.Reply]{Request: passAll[v1.HealthCheckRequest]})
	refuses("v1.HealthCheckRequest", err)
	_, err = structmode.NewFilter("/s.S/M", structmode.Filter[keeping[*lossy], echo.Reply]{})
	refuses("handler_test.lossy", err)
	_, err = structmode.NewFilter("/s.S/M", structmode.Filter[echo.Request, keeping[[]*lossy]]{})
	refuses("handler_test.lossy", err)
	_, err = structmode.NewFilter("/s.S/M", structmode.Filter[keeping[map[string]*keeping[*lossy]], echo.Reply]{})
	refuses("handler_test.lossy", err)
	_, err = structmode.NewFilter("/s.S/M", structmode.Filter[keeping[*choosing], echo.Reply]{})
	refuses("handler_test.lossy", err)
	_, err = structmode.NewFilter("/s.S/M", structmode.Filter[keeping[map[string][]byte], keeping[*keeping[string]]]{})
	require.NoError(t, err)
}

func passAll[T any](_ context.Context, m *T) (*T, error) { return m, nil }

func TestNewFilter_ChecksBothTypesAndTheMethod(t *testing.T) {
	t.Parallel()
	_, err := structmode.NewFilter("/s.S/M", structmode.Filter[int, echo.Reply]{Response: passAll[echo.Reply]})
	require.EqualError(t, err, "filter of /s.S/M: int, want a type that Kitex or protoc-gen-go generated")
	_, err = structmode.NewFilter("s.S/M", structmode.Filter[echo.Request, echo.Reply]{})
	require.EqualError(t, err, `filter of s.S/M: method: "s.S/M", want /pkg.Service/Method`)
}

func TestFilter_PassesEmptyMessages(t *testing.T) {
	t.Parallel()
	f, err := structmode.NewFilter("/echo.Echo/Chat", structmode.Filter[echo.Request, echo.Reply]{Request: passAll[echo.Request], Response: passAll[echo.Reply]})
	require.NoError(t, err)
	cc := startFiltered(t, handlertest.Echo, handler.Config{Filters: []structmode.MethodFilter{f}})
	stream, err := handlertest.Open(t.Context(), cc, "/echo.Echo/Chat")
	require.NoError(t, err)
	for _, m := range [][]byte{{}, request("x"), {}} {
		require.NoError(t, stream.SendMsg(&m))
		var got []byte
		require.NoError(t, stream.RecvMsg(&got))
		require.Equal(t, string(m), string(got))
	}
}

func TestFilter_ContextHasTheTimeoutOfTheRoute(t *testing.T) {
	t.Parallel()
	deadlines := make(chan bool, 1)
	f, err := structmode.NewFilter("/echo.Echo/Say", structmode.Filter[echo.Request, echo.Reply]{
		Request: func(ctx context.Context, m *echo.Request) (*echo.Request, error) {
			_, ok := ctx.Deadline()
			deadlines <- ok
			return m, nil
		},
	})
	require.NoError(t, err)
	doc, err := spec.ParseRoute([]byte(`{name: r, mode: struct, match: [{method: "*"}], backends: [{endpoints: [{address: "h:1"}]}]}`))
	require.NoError(t, err)
	prog, err := structmode.CompileRoute(doc, nil)
	require.NoError(t, err)
	_, cc := handlertest.Start(t, handler.Config{Filters: []structmode.MethodFilter{f}, Router: handlertest.To(cluster.Target{
		Route: "r", Mode: spec.ModeStruct, Program: prog, Address: handlertest.Backend(t, handlertest.Echo), Timeout: time.Minute,
	})})
	_, err = handlertest.Unary(context.Background(), cc, "/echo.Echo/Say", request("x"))
	require.NoError(t, err)
	require.True(t, <-deadlines)
}
