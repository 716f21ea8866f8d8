package handler_test

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/framegate/framegate/handler"
	"github.com/framegate/framegate/handler/handlertest"
	"github.com/framegate/framegate/handler/local"
	"github.com/framegate/framegate/handler/structmode/compress"
	"github.com/framegate/framegate/test/testbed"
)

func observed() (handlertest.Ends, handler.Config) {
	e := make(handlertest.Ends, 1024)
	return e, handler.Config{MaxMessageBytes: 64 << 20, Observers: []handler.Observer{e}}
}

func TestStruct_LargestLengthIsRefused(t *testing.T) {
	t.Parallel()
	_, cfg := observed()
	shop := startRawShop(t, bothWays, cfg)
	cs, ss, _ := shop.open(t, chat())
	cs.Send(testbed.Prefix(0, 0xFFFFFFFF))
	requireLocal(t, cs.Outcome(), codes.ResourceExhausted, "message_too_large")
	ss.AwaitReset()

	cs, ss, _ = shop.open(t, chat())
	ss.SendHeaders(testbed.ResponseFields())
	ss.Send(testbed.Prefix(1, 0xFFFFFFFF))
	requireLocal(t, cs.Outcome(), codes.ResourceExhausted, "message_too_large")
	ss.AwaitReset()
}

func TestStruct_FlagThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	_, cfg := observed()
	shop := startRawShop(t, bothWays, cfg)
	cs, ss, _ := shop.open(t, chat())
	cs.Send([]byte{2, 0, 0, 0, 0})
	requireLocal(t, cs.Outcome(), codes.Internal, "bad_request_framing")
	ss.AwaitReset()
}

// Memory is taken for what came: 64 streams that announce 64 MiB each and send a byte.
func TestStruct_AnnouncedLengthTakesNoMemory(t *testing.T) {
	const streams = 64
	for _, limit := range []int64{0, 64 << 20} {
		ended, cfg := observed()
		cfg.MaxMessageBytes = limit
		shop := startRawShop(t, bothWays, cfg)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var calls []*testbed.H2Stream
		for range streams {
			cs, _, _ := shop.open(t, chat())
			cs.Send(append(testbed.Prefix(0, 64<<20), 'x'))
			calls = append(calls, cs)
		}
		for _, cs := range calls {
			cs.SendEnd([]byte("y"))
			requireLocal(t, cs.Outcome(), codes.Internal, "bad_request_framing")
			testbed.Await(t, ended, "the end of the call")
		}
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(streams*(256<<10)), "bytes allocated")
	}
}

func TestStruct_CutMessageIsAnError(t *testing.T) {
	t.Parallel()
	for _, cut := range [][]byte{{0}, testbed.Prefix(0, 1), append(testbed.Prefix(0, 10), "abc"...), append(testbed.Prefix(0, 100_000), make([]byte, 99_999)...)} {
		for _, rules := range []string{bothWays, withHeader} {
			ended, cfg := observed()
			shop := startRawShop(t, rules, cfg)
			cs := shop.client.Open(t, chat())
			cs.SendEnd(cut)
			o := cs.Outcome()
			requireLocal(t, o, codes.Internal, "bad_request_framing")
			require.Contains(t, o.Message(), "stream ended within a message")
			require.Zero(t, testbed.Await(t, ended, "the end of the call").RequestBytes)
		}
		_, cfg := observed()
		shop := startRawShop(t, bothWays, cfg)
		cs, ss, _ := shop.open(t, chat())
		ss.SendHeaders(testbed.ResponseFields())
		ss.Send(cut)
		ss.SendTrailers(testbed.StatusFields(0, ""))
		o := cs.Outcome()
		requireLocal(t, o, codes.Internal, "bad_response_framing")
		require.Empty(t, o.Body)
	}
}

// withHeader makes a call wait for its first message.
const withHeader = `struct: {rules: [{on: request, action: header, set: {x-name: 'message.name'}}]}`

func TestStruct_CallWithoutAMessageIsForwardedWithoutADecision(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testbed.H2Conn) *testbed.H2Stream{
		"end with the headers": func(c *testbed.H2Conn) *testbed.H2Stream { return c.OpenEnd(t, chat()) },
		"end later": func(c *testbed.H2Conn) *testbed.H2Stream {
			cs := c.Open(t, chat())
			cs.SendEnd(nil)
			return cs
		},
	} {
		t.Run(name, func(t *testing.T) {
			ended, cfg := observed()
			shop := startRawShop(t, withHeader, cfg)
			cs := open(shop.client)
			ss := shop.server.Accept(t)
			require.False(t, ss.ReadHeaders().Has("x-name"))
			ss.WantEnd()
			ss.SendHeaders(testbed.ResponseFields())
			ss.Send(testbed.Frame([]byte("\x0a\x01a")))
			ss.SendTrailers(testbed.StatusFields(0, ""))
			o := cs.Outcome()
			require.Zero(t, o.Code(), o.String())
			require.Equal(t, testbed.Frame([]byte("\x0a\x01a")), o.Body)
			require.Empty(t, testbed.Await(t, ended, "the end of the call").Reason)
		})
	}
}

func TestStruct_ClientThatGivesUpBeforeItsFirstMessageLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, sent := range [][]byte{nil, {0}, append(testbed.Prefix(0, 1000), 'x')} {
		ended, cfg := observed()
		shop := startRawShop(t, withHeader, cfg)
		cs := shop.client.Open(t, chat())
		if sent != nil {
			cs.Send(sent)
		}
		cs.Reset(http2.ErrCodeCancel)
		r := testbed.Await(t, ended, "the end of the call")
		require.Equal(t, local.ReasonCanceled, r.Reason)
		require.Zero(t, r.RequestBytes)
		require.Empty(t, shop.server.Conns(), "connections to the endpoint")
	}
}

func TestStruct_ConnectionThatEndsBeforeTheFirstMessageLeavesNothing(t *testing.T) {
	t.Parallel()
	ended, cfg := observed()
	shop := startRawShop(t, withHeader, cfg)
	shop.client.Open(t, chat())
	shop.refused(t, chat(), testbed.Message{Payload: []byte{0xff}}) // so the one before has come in
	testbed.Await(t, ended, "the end of the refused call")
	shop.client.Close()
	require.Equal(t, local.ReasonCanceled, testbed.Await(t, ended, "the end of the call").Reason)
	require.Empty(t, shop.server.Conns())
}

func TestStruct_TimeoutsHoldBeforeTheFirstMessage(t *testing.T) {
	t.Parallel()
	const limit = 150 * time.Millisecond
	for name, c := range map[string]struct {
		route  string
		fields []string
	}{
		"of the route":  {route: "timeout: 150ms\n"},
		"of the client": {fields: []string{"grpc-timeout", "150m"}},
	} {
		for _, sent := range [][]byte{nil, append(testbed.Prefix(0, 1000), 'x')} {
			t.Run(name, func(t *testing.T) {
				ended, cfg := observed()
				shop := startRawShop(t, c.route+withHeader, cfg)
				began := time.Now()
				cs := shop.client.Open(t, chat(c.fields...))
				if sent != nil {
					cs.Send(sent)
				}
				o := cs.Outcome()
				requireLocal(t, o, codes.DeadlineExceeded, "timeout")
				require.GreaterOrEqual(t, o.At.Sub(began), limit-5*time.Millisecond)
				require.Less(t, o.At.Sub(began), limit+5*time.Second)
				require.Equal(t, local.ReasonTimeout, testbed.Await(t, ended, "the end of the call").Reason)
				require.Empty(t, shop.server.Conns())
			})
		}
	}
}

func TestStruct_EndCallsEndsThoseThatWaitForTheirFirstMessage(t *testing.T) {
	t.Parallel()
	ended, cfg := observed()
	shop := startRawShop(t, withHeader, cfg)
	cs := shop.client.Open(t, chat())
	var r handler.Record
	testbed.Poll(t, func() error { // the call is in the proxy's list a moment after it was opened
		shop.proxy.EndCalls()
		select {
		case r = <-ended:
			return nil
		default:
			return errors.New("the call goes on")
		}
	})
	requireLocal(t, cs.Outcome(), codes.Unavailable, "draining")
	require.Equal(t, local.ReasonDraining, r.Reason)
	require.Empty(t, shop.server.Conns())
}

// wanted is what becomes of a request under the request rule of bothWays, or false if it is not to be forwarded.
func wanted(t *testing.T, shop rawShop, plain []byte) (out proto.Message, changed, ok bool) {
	t.Helper()
	m := newOrder(shop.schema)
	if err := proto.Unmarshal(plain, m); err != nil {
		return nil, false, false
	}
	fields := m.Descriptor().Fields()
	if m.Get(fields.ByName("name")).String() != "hit" {
		return m, false, true
	}
	tier := fields.ByName("tier")
	changed = m.Get(tier).String() != "in"
	m.Set(tier, protoreflect.ValueOfString("in"))
	return m, changed, true
}

func FuzzStruct(f *testing.F) {
	_, cfg := observed()
	cfg.Observers, cfg.MaxMessageBytes = nil, 1<<20
	shop := startRawShop(f, bothWays, cfg)
	encodings := []string{"identity", "gzip", "deflate", "snappy", "zstd", "br"}
	hit := order(f, shop.schema, map[string]any{"name": "hit", "amount": int64(-1)})
	for i, name := range encodings[:5] {
		c, _ := compress.Get(name)
		b, err := c.Compress(nil, hit)
		require.NoError(f, err)
		f.Add(byte(i), byte(1), b)
		f.Add(byte(i), byte(0), b)
	}
	f.Add(byte(0), byte(0), append(hit, hit...))
	f.Add(byte(0), byte(0), []byte("\x0a\x03hit\x1a\x02in")) // changed to what it is
	f.Add(byte(0), byte(0), []byte("\x0a\x03hit\x0a\x02no"))
	f.Add(byte(5), byte(1), []byte("x"))
	f.Add(byte(0), byte(2), []byte{})
	f.Add(byte(0), byte(0), []byte("\x0a\xff\xff\xff\xff\x0fx"))
	f.Add(byte(0), byte(0), []byte{0x0a, 1, 0xff})
	f.Add(byte(0), byte(0), bytes.Repeat([]byte{0xa3, 0x06}, 5000))
	calls := 0
	f.Fuzz(func(t *testing.T, which, flag byte, payload []byte) {
		encoding := encodings[int(which)%len(encodings)]
		if len(payload) > 32<<10 {
			payload = payload[:32<<10] // a window
		}
		sent := testbed.Message{Flag: flag, Payload: payload}
		calls++
		cs := shop.client.Open(t, chat("grpc-encoding", encoding, "x-call", fmt.Sprint(calls)))
		_ = cs.TrySendEnd(sent.Bytes())
		ss, o := shop.server.AcceptUnless(t, cs)
		for ss != nil && ss.ReadHeaders().Get("x-call") != fmt.Sprint(calls) { // of a call before, refused meanwhile
			ss, o = shop.server.AcceptUnless(t, cs)
		}
		forwarded := testbed.Outcome{}
		if ss != nil {
			if forwarded = ss.Outcome(); forwarded.Ended {
				ss.SendHeaders(testbed.ResponseFields())
				ss.SendTrailers(testbed.StatusFields(0, ""))
			}
			o = cs.Outcome()
		}
		require.NotEqual(t, "internal", o.Reason(), o.String())

		plain, known := payload, flag <= 1
		if flag == 1 {
			c, ok := compress.Get(encoding)
			known = ok && encoding != "identity"
			if known {
				var err error
				plain, err = c.Decompress(payload, cfg.MaxMessageBytes)
				known = err == nil
			}
		}
		want, changed, ok := wanted(t, shop, plain)
		if !known || !ok {
			require.False(t, forwarded.Ended, "forwarded: %s", forwarded)
			require.NotEmpty(t, o.Reason(), o.String())
			return
		}
		require.Zero(t, o.Code(), o.String())
		if !changed {
			require.Equal(t, sent.Bytes(), forwarded.Body)
			return
		}
		all, err := testbed.Messages(forwarded.Body)
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.Equal(t, flag, all[0].Flag)
		got := all[0].Payload
		if flag == 1 {
			c, _ := compress.Get(encoding)
			got, err = c.Decompress(got, 0)
			require.NoError(t, err)
		}
		m := newOrder(shop.schema)
		require.NoError(t, proto.Unmarshal(got, m))
		require.True(t, proto.Equal(want, m), "got %v, want %v", m, want)
	})
}
