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

	"github.com/klauspost/compress/snappy"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/handler/structmode"
	"github.com/framegate/framegate/resolver/cluster"
	"github.com/framegate/framegate/resolver/spec"
	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/testbed"
)

// holder is a filter of /shop.Shop/Say that keeps messages, and all that they take, until it is released.
type holder struct {
	filter  structmode.MethodFilter
	holding chan struct{} // a message has come
	release chan struct{}
}

func newHolder(t testing.TB) *holder {
	t.Helper()
	h := &holder{holding: make(chan struct{}, 100), release: make(chan struct{})}
	var err error
	h.filter, err = structmode.NewFilter("/shop.Shop/Say", structmode.Filter[wrapperspb.StringValue, wrapperspb.StringValue]{
		Request: func(_ context.Context, m *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
			h.holding <- struct{}{}
			<-h.release
			return m, nil
		},
	})
	require.NoError(t, err)
	t.Cleanup(sync.OnceFunc(h.free))
	return h
}

// free lets all go on that is held.
func (h *holder) free() {
	select {
	case <-h.release:
	default:
		close(h.release)
	}
}

func say(pairs ...string) testbed.Fields {
	return testbed.RequestFields(pairs...).Replace(":path", "/shop.Shop/Say")
}

// requireNothingHeld waits until messages take nothing any more.
func requireNothingHeld(t testing.TB, p *handler.Proxy) {
	t.Helper()
	testbed.Poll(t, func() error {
		if d := p.Decoding(); d.Used != 0 || d.Waiting != 0 {
			return fmt.Errorf("%+v, want nothing in use", d)
		}
		return nil
	})
}

func awaitWaiting(t testing.TB, p *handler.Proxy, n int) {
	t.Helper()
	testbed.Poll(t, func() error {
		if d := p.Decoding(); d.Waiting != n {
			return fmt.Errorf("%+v, want %d that wait", d, n)
		}
		return nil
	})
}

// What a client or an endpoint sends finds no room, in whatever encoding: it waits, and its call ends before its deadline
// with a reason; or the room comes in time.
func TestStruct_MessagesThatFindNoRoomWait(t *testing.T) {
	const size = 3 << 20
	text := `{"card":"` + strings.Repeat("4111 ", size/5) + `"}`
	for _, encoding := range []string{"", "gzip", "deflate", "snappy", "snappy block", "zstd", "json"} {
		for _, of := range []string{"request", "response"} {
			t.Run(encoding+" "+of, func(t *testing.T) {
				t.Parallel()
				ended, cfg := observed()
				hold := newHolder(t)
				cfg.MaxDecodedBytes, cfg.Filters = budget.MinBytes, []structmode.MethodFilter{hold.filter}
				shop := startRawShop(t, bothWays, cfg)
				blocker, _, _ := shop.open(t, say())
				blocker.Send(testbed.Frame(order(t, shop.schema, map[string]any{"name": "large", "card": strings.Repeat("x", 1<<20)})))
				testbed.Await(t, hold.holding, "a message that is held")

				plain := order(t, shop.schema, map[string]any{"name": "other", "card": strings.Repeat("4111 ", size/5)})
				m := testbed.Message{Payload: plain}
				fields := []string{"grpc-timeout", "3S"}
				headers := testbed.ResponseFields()
				path := chat
				switch name, _, _ := strings.Cut(encoding, " "); name {
				case "":
				case "json":
					m.Payload = []byte(text)
					path = func(pairs ...string) testbed.Fields {
						return chat(pairs...).Replace("content-type", "application/grpc+json")
					}
					headers = headers.Replace("content-type", "application/grpc+json")
				default:
					m = compressed(t, name, plain)
					if encoding == "snappy block" {
						m.Payload = snappy.Encode(nil, plain)
					}
					fields, headers = append(fields, "grpc-encoding", name), headers.With("grpc-encoding", name)
				}
				// send sends the message on its way through a new call, and returns where it goes to.
				send := func() (cs, to *testbed.H2Stream) {
					cs, ss, _ := shop.open(t, path(fields...))
					if of == "request" {
						go func() { _ = cs.TrySend(m.Bytes()) }()
						return cs, ss
					}
					ss.SendHeaders(headers)
					go func() { _ = ss.TrySend(m.Bytes()) }()
					return cs, cs
				}
				began := time.Now()
				cs, _ := send()
				o := cs.Outcome()
				requireLocal(t, o, codes.ResourceExhausted, "overloaded")
				require.Equal(t, "1000", o.Trailers.Get("grpc-retry-pushback-ms"))
				require.GreaterOrEqual(t, o.At.Sub(began), 2*time.Second)
				r := testbed.Await(t, ended, "the end of the call")
				require.Equal(t, "max_decoded_bytes", r.Limit)
				require.EqualValues(t, 1, shop.proxy.Decoding().Refused)

				fields[1] = "60S"
				cs, to := send()
				awaitWaiting(t, shop.proxy, 1)
				hold.free()
				if of == "response" {
					to.ReadHeaders()
				}
				got, err := to.ReadMessage()
				require.NoError(t, err)
				require.Equal(t, len(m.Bytes()), len(got.Bytes()))
				cs.Reset(http2.ErrCodeCancel)
				blocker.Reset(http2.ErrCodeCancel)
				requireNothingHeld(t, shop.proxy)
			})
		}
	}
}

// What is counted of a call stays so until its message has been worked on, though the client has left: max_calls holds for
// what is worked on.
func TestStruct_CallIsCountedUntilItsWorkHasEnded(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(cs, ss *testbed.H2Stream){
		"the client leaves": func(cs, _ *testbed.H2Stream) { cs.Reset(http2.ErrCodeCancel) },
		"the endpoint answers": func(cs, ss *testbed.H2Stream) {
			ss.SendTrailers(testbed.StatusFields(5, "no"))
			cs.Outcome()
		},
	} {
		t.Run(name, func(t *testing.T) {
			ended, cfg := observed()
			hold := newHolder(t)
			cfg.MaxDecodedBytes, cfg.Filters, cfg.MaxCalls = budget.MinBytes, []structmode.MethodFilter{hold.filter}, map[string]int{handlertest.Listener: 1}
			shop := startRawShop(t, bothWays, cfg)
			cs, ss, _ := shop.open(t, say())
			cs.Send(testbed.Frame(order(t, shop.schema, map[string]any{"name": "a"})))
			testbed.Await(t, hold.holding, "a message that is held")
			leave(cs, ss)
			ss.Outcome() // so the call has ended on both sides
			for range 10 {
				requireLocal(t, shop.client.Open(t, say()).Outcome(), codes.ResourceExhausted, "overloaded")
			}
			require.Equal(t, 1, shop.proxy.Entrance(handlertest.Listener).Calls)
			hold.free()
			for range 11 {
				testbed.Await(t, ended, "the end of a call")
			}
			require.Zero(t, shop.proxy.Entrance(handlertest.Listener).Calls)
			requireNothingHeld(t, shop.proxy)
		})
	}
}

// A call that waits for room and whose client leaves waits no longer, and another has its place.
func TestStruct_CallThatEndsWaitsNoLonger(t *testing.T) {
	t.Parallel()
	ended, cfg := observed()
	hold := newHolder(t)
	cfg.MaxDecodedBytes, cfg.Filters = budget.MinBytes, []structmode.MethodFilter{hold.filter}
	shop := startRawShop(t, bothWays, cfg)
	blocker, _, _ := shop.open(t, say())
	large := testbed.Frame(order(t, shop.schema, map[string]any{"name": "large", "card": strings.Repeat("x", 1<<20)}))
	blocker.Send(large)
	testbed.Await(t, hold.holding, "a message that is held")
	for _, end := range []func(cs *testbed.H2Stream){
		func(cs *testbed.H2Stream) { cs.Reset(http2.ErrCodeCancel) },
		func(cs *testbed.H2Stream) { shop.proxy.EndCalls() },
	} {
		cs := shop.client.Open(t, say())
		cs.Send(large)
		awaitWaiting(t, shop.proxy, 1)
		end(cs)
		awaitWaiting(t, shop.proxy, 0)
		testbed.Await(t, ended, "the end of the call")
	}
	hold.free()
	requireNothingHeld(t, shop.proxy)
}

// Each call holds a request that is on its way while its answer needs room, and there is room for a few of them only: all
// end, some of them well, and nothing is left.
func TestStruct_CallsThatHoldRequestAndAnswerGoOn(t *testing.T) {
	t.Parallel()
	const messages = 4
	calls := race.Choose(12, 8)
	_, cfg := observed()
	cfg.MaxDecodedBytes = budget.MinBytes
	prog, err := structmode.CompileRoute(parseRoute(t, bothWays), orders(t))
	require.NoError(t, err)
	cfg.Router = handlertest.To(cluster.Target{Route: "r", Mode: spec.ModeStruct, Program: prog, Address: handlertest.Backend(t, handlertest.Echo)})
	p, cc := handlertest.Start(t, cfg)
	large := order(t, orders(t), map[string]any{"name": "hit", "card": strings.Repeat("x", 1<<20)})
	var wg sync.WaitGroup
	var mu sync.Mutex
	results := map[codes.Code]int{}
	for range calls {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			stream, err := handlertest.Open(ctx, cc, "/shop.Shop/Chat")
			if err == nil {
				go func() {
					for range messages {
						if stream.SendMsg(&large) != nil {
							return
						}
					}
					_ = stream.CloseSend()
				}()
				for err == nil {
					var m []byte
					err = stream.RecvMsg(&m)
				}
			}
			if errors.Is(err, io.EOF) {
				err = nil
			}
			mu.Lock()
			results[status.Code(err)]++
			mu.Unlock()
		})
	}
	wg.Wait()
	t.Log(results)
	require.NotZero(t, results[codes.OK])
	requireNothingHeld(t, p)
	require.Equal(t, calls, results[codes.OK]+results[codes.ResourceExhausted], "%v", results)
}

func TestStruct_MessageOfMoreThanTheBudgetIsTooLarge(t *testing.T) {
	t.Parallel()
	_, cfg := observed()
	cfg.MaxDecodedBytes = budget.MinBytes
	shop := startRawShop(t, bothWays, cfg)
	for _, m := range []testbed.Message{
		compressed(t, "zstd", order(t, shop.schema, map[string]any{"card": strings.Repeat("x", 20<<20)})),
		{Payload: make([]byte, 20<<20)},
	} {
		cs := shop.client.Open(t, chat("grpc-encoding", "zstd"))
		_ = cs.TrySend(m.Bytes())
		requireLocal(t, cs.Outcome(), codes.ResourceExhausted, "message_too_large")
		requireNothingHeld(t, shop.proxy)
	}
}
