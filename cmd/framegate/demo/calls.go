package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/kerrors"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/transport"

	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/kitex_gen/echo"
	echosvc "github.com/framegate/framegate/kitex_gen/echo/echo"
	"github.com/framegate/framegate/kitex_gen/shop"
	shopsvc "github.com/framegate/framegate/kitex_gen/shop/shop"
)

// clients are Kitex clients of the demo services. They know only the proxy's address.
type clients struct {
	echo echosvc.Client
	shop shopsvc.Client
}

const callTimeout = 5 * time.Second

func newClients(addr string) (c clients, err error) {
	opts := []client.Option{client.WithHostPorts(addr), client.WithTransportProtocol(transport.GRPC)}
	if c.echo, err = echosvc.NewClient("echo", opts...); err != nil {
		return c, fmt.Errorf("echo client: %w", err)
	}
	if c.shop, err = shopsvc.NewClient("shop", opts...); err != nil {
		return c, fmt.Errorf("shop client: %w", err)
	}
	return c, nil
}

// outcome is the result of a call: its messages, and its answer.
type outcome struct {
	sent, received int
	answer         string // text of the last message, or of the error
}

// demoCall is one call of the demo.
type demoCall struct {
	kind   string
	method string
	make   func(ctx context.Context, c clients) (outcome, error)
	want   string // what the answer must be
	header string // that the call has; empty for none
}

const streamed = 3 // messages of each streaming call

// demoCalls returns calls of all four kinds, one that fails with a business error, and two on which rules of a route in
// struct mode act.
func demoCalls() []demoCall {
	return []demoCall{
		{"unary", "/echo.Echo/Say", sayHello, "echo-1 heard hello", ""},
		{"client streaming", "/echo.Echo/Collect", collect, "echo-1 counted 3", ""},
		{"server streaming", "/echo.Echo/Stream", stream, "echo-1 heard more", ""},
		{"bidirectional", "/echo.Echo/Chat", chat, "echo-1 heard line 3", ""},
		{"unary", "/shop.Shop/Price", price("tea"), "tea costs 350", ""},
		{"unary, refused", "/shop.Shop/Price", refusedPrice, "business error 404: no such item", ""},
		{"unary, changed by a rule", "/shop.Shop/Price", price("chai"), "tea costs 350", ""},
		{"unary, refused by a rule", "/shop.Shop/Price", ruledOut, "PERMISSION_DENIED: framegate: no beer here", ""},
	}
}

func sayHello(ctx context.Context, c clients) (outcome, error) {
	r, err := c.echo.Say(ctx, &echo.Request{Message: "hello"})
	if err != nil {
		return outcome{sent: 1}, err
	}
	return outcome{1, 1, r.Message}, nil
}

func collect(ctx context.Context, c clients) (o outcome, err error) {
	s, err := c.echo.Collect(ctx)
	if err != nil {
		return o, err
	}
	for ; o.sent < streamed; o.sent++ {
		if err := s.Send(&echo.Request{Message: fmt.Sprintf("part %d", o.sent+1)}); err != nil {
			return o, err
		}
	}
	r, err := s.CloseAndRecv()
	if err != nil {
		return o, err
	}
	o.received, o.answer = 1, r.Message
	return o, nil
}

func stream(ctx context.Context, c clients) (o outcome, err error) {
	s, err := c.echo.Stream(ctx, &echo.Request{Message: "more", Count: streamed})
	if err != nil {
		return o, err
	}
	for o.sent = 1; ; o.received++ {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return o, nil
		}
		if err != nil {
			return o, err
		}
		o.answer = r.Message
	}
}

func chat(ctx context.Context, c clients) (o outcome, err error) {
	s, err := c.echo.Chat(ctx)
	if err != nil {
		return o, err
	}
	for o.sent < streamed {
		if err := s.Send(&echo.Request{Message: fmt.Sprintf("line %d", o.sent+1)}); err != nil {
			return o, err
		}
		o.sent++
		r, err := s.Recv()
		if err != nil {
			return o, err
		}
		o.received++
		o.answer = r.Message
	}
	if err := s.Close(); err != nil {
		return o, err
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		return o, fmt.Errorf("after the last line: %v, want the end of the stream", err)
	}
	return o, nil
}

func price(item string) func(context.Context, clients) (outcome, error) {
	return func(ctx context.Context, c clients) (outcome, error) {
		r, err := c.shop.Price(ctx, &shop.PriceRequest{Item: item})
		if err != nil {
			return outcome{sent: 1}, err
		}
		return outcome{1, 1, fmt.Sprintf("%s costs %d", r.Item, r.Cents)}, nil
	}
}

func refusedPrice(ctx context.Context, c clients) (outcome, error) {
	o, err := price("unicorn")(ctx, c)
	biz, ok := kerrors.FromBizStatusError(err)
	if !ok {
		return o, fmt.Errorf("%v, want a business error", err)
	}
	o.answer = fmt.Sprintf("business error %d: %s", biz.BizStatusCode(), biz.BizMessage())
	return o, nil
}

func ruledOut(ctx context.Context, c clients) (outcome, error) {
	o, err := price("beer")(ctx, c)
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return o, fmt.Errorf("%v, want a status", err)
	}
	o.answer = fmt.Sprintf("%s: %s", local.CodeName(st.Code()), st.Message())
	return o, nil
}
