package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/framegate/framegate/test/testbed"
)

// neighbours opens calls that share the connection of whatever call comes next, and returns what checks that they are
// whole.
func neighbours(t testing.TB, p rawPair, n int) (check func()) {
	t.Helper()
	var cs, ss []*testbed.H2Stream
	for range n {
		c, s, _ := p.open(t, testbed.RequestFields())
		cs, ss = append(cs, c), append(ss, s)
	}
	return func() {
		t.Helper()
		for i := range cs {
			cs[i].SendEnd(testbed.Frame(text("a neighbour's request")))
			ss[i].WantMessage(string(text("a neighbour's request")))
			ss[i].SendHeaders(testbed.ResponseFields())
			ss[i].Send(testbed.Frame(text("a neighbour's answer")))
			ss[i].SendTrailers(testbed.StatusFields(0, ""))
			o := cs[i].Outcome()
			wantUpstream(t, o, 0, "")
			require.Equal(t, testbed.Frame(text("a neighbour's answer")), o.Body)
		}
	}
}

// A status that is no int32 is UNKNOWN, whatever else the endpoint says. Kitex's reader panics at one, and every call on
// the connection would hang.
func TestAnswers_StatusThatIsNone(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		check := neighbours(t, p, 3)
		for shape := range responseShapes {
			all := []testbed.Fields{
				testbed.NewFields("grpc-status", "4294967295", "grpc-message", "why"),
				testbed.NewFields("grpc-status", "-1", "grpc-message", "why"),
				testbed.NewFields("grpc-status", "NOT_FOUND", "grpc-message", "why"),
			}
			if onKitex() { // which reads it
				all = append(all, testbed.NewFields("grpc-status", "13", "biz-status", "4294967295", "grpc-message", "why"))
			}
			for _, fields := range all {
				t.Run(fmt.Sprintf("%s/%s", shape, fields), func(t *testing.T) {
					start := time.Now()
					o := p.answer(t, shape, fields)
					wantUpstream(t, o, 2, "why")
					require.Less(t, time.Since(start), testbed.Patience/2)
				})
			}
		}
		check()
	})
}

// What contradicts grpc-status, or cannot be decoded, does not take its place. Kitex would answer with the code of the
// details, or with INTERNAL; over the relay it is the client's to judge.
func TestAnswers_StatusIsThatOfGrpcStatus(t *testing.T) {
	t.Parallel()
	details := func(code int32, more string) string {
		b, err := proto.Marshal(&spb.Status{Code: code, Message: "of the details"})
		require.NoError(t, err)
		return string(b) + more
	}
	eachMode(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		check := neighbours(t, p, 2)
		for shape := range responseShapes {
			for name, c := range map[string]struct {
				code   int
				fields []string
				want   int
			}{
				"another code":       {5, []string{"grpc-status-details-bin", encode(details(9, field(3, field(1, "type.googleapis.com/x"))))}, 5},
				"code -1":            {5, []string{"grpc-status-details-bin", encode(details(-1, ""))}, 5},
				"code 0":             {5, []string{"grpc-status-details-bin", encode(details(0, ""))}, 5},
				"a code beside OK":   {0, []string{"grpc-status-details-bin", encode(details(9, ""))}, 0},
				"not base64":         {5, []string{"grpc-status-details-bin", "!!!"}, 5},
				"no message":         {5, []string{"grpc-status-details-bin", encode("\xff\xff")}, 5},
				"one of two is good": {5, []string{"grpc-status-details-bin", encode("\xff"), "grpc-status-details-bin", encode(details(9, ""))}, 5},
				"biz-extra":          {5, []string{"biz-status", "7", "biz-extra", "{"}, 5},
				"grpc-timeout":       {5, []string{"grpc-timeout", "soon"}, 5},
				"grpc-trace-bin":     {5, []string{"grpc-trace-bin", "!"}, 5},
				"grpc-tags-bin":      {5, []string{"grpc-tags-bin", "a!!!"}, 5},
			} {
				t.Run(shape+"/"+name, func(t *testing.T) {
					o := p.answer(t, shape, testbed.StatusFields(c.code, "theirs", c.fields...).With("x-trailer", "theirs"))
					wantUpstream(t, o, c.want, "theirs")
					require.Equal(t, []string{"theirs"}, o.Trailers.Values("x-trailer"))
					if onKitex() || name == "not base64" && strings.Contains(t.Name(), "/struct/") {
						require.Empty(t, o.Trailers.Values("grpc-status-details-bin"))
					} else {
						require.Equal(t, testbed.NewFields(c.fields...).Values("grpc-status-details-bin"), o.Trailers.Values("grpc-status-details-bin"))
					}
				})
			}
			t.Run(shape+"/no grpc-status", func(t *testing.T) {
				o := p.answer(t, shape, testbed.NewFields("grpc-status-details-bin", encode(details(9, "")), "x-trailer", "theirs"))
				require.Equal(t, 2, o.Code(), o)
			})
		}
		check()
	})
}

// Headers or trailers that are too large end their call alone. They ended the connection, and with it its other calls, were
// asked for again at the next endpoint, and so brought one endpoint after the other down.
func TestAnswers_TooLargeHeadersEndTheirCallAlone(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("v", 72<<10)
	shapes := map[string]func(ss *testbed.H2Stream){
		"a message": func(ss *testbed.H2Stream) {
			ss.SendTrailers(testbed.ResponseFields().With("grpc-status", "13", "grpc-message", large))
		},
		"a message after an answer": func(ss *testbed.H2Stream) {
			ss.SendHeaders(testbed.ResponseFields())
			ss.Send(testbed.Frame(text("a message")))
			ss.SendTrailers(testbed.StatusFields(14, large))
		},
		"a header": func(ss *testbed.H2Stream) { ss.SendHeaders(testbed.ResponseFields("x-large", large)) },
		"2 MB": func(ss *testbed.H2Stream) {
			ss.SendHeaders(testbed.ResponseFields("x-large", strings.Repeat(large, 30)))
		},
		"UNAVAILABLE": func(ss *testbed.H2Stream) {
			ss.SendTrailers(testbed.ResponseFields("grpc-status", "14", "x-large", large))
		},
	}
	for _, mode := range []string{"mode: frame", "mode: struct"} {
		for name, shape := range shapes {
			t.Run(mode+"/"+name, func(t *testing.T) {
				server := testbed.NewH2Server(t)
				route := testbed.RouteTo
				if mode == "mode: struct" {
					route = func(addr string) string { return testbed.StructRouteTo(t, addr) }
				}
				proxy := testbed.NewProxy(t, route(server.Addr)+"  retry: {attempts: 3, codes: [UNAVAILABLE, INTERNAL], budget: {percent: 100, min: 100}}\n")
				p := rawPair{client: testbed.DialH2(t, proxy.Addr), server: server}
				check := neighbours(t, p, 3)
				for range 3 {
					cs, ss, _ := p.open(t, testbed.RequestFields())
					cs.SendEnd(testbed.Frame(text("request")))
					ss.WantMessage(string(text("request")))
					shape(ss)
					wantLocal(t, cs.Outcome(), 8, "headers_too_large")
				}
				require.Zero(t, server.Unaccepted(), "tries beyond the first")
				require.Equal(t, 1, proxy.UpstreamConnections())
				check()
			})
		}
	}
}

// An endpoint cannot say what only framegate says.
func TestAnswers_EndpointCannotMakeALocalError(t *testing.T) {
	t.Parallel()
	p := newRawPair(t, proxied)
	o := p.answer(t, "trailers only", testbed.NewFields("grpc-status", "headers too large",
		"grpc-message", `transport: malformed grpc-status: strconv.Atoi: parsing "headers too large": invalid syntax`))
	require.Equal(t, 2, o.Code())
	require.Empty(t, o.Reason())
}

// Answers of 1xx come before the real one and mean nothing to gRPC (RFC 9110 §15.2).
func TestAnswers_InformationalOnesArePassedOver(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, to via) {
		p := newRawPair(t, to)
		check := neighbours(t, p, 2)
		for shape, send := range responseShapes {
			for range 2 {
				cs, ss, _ := p.open(t, testbed.RequestFields())
				cs.SendEnd(testbed.Frame(text("request")))
				ss.WantMessage(string(text("request")))
				ss.WantEnd()
				ss.SendHeaders(testbed.NewFields(":status", "100"))
				ss.SendHeaders(testbed.NewFields(":status", "103", "link", "</a>; rel=preload", "x-early", "hint"))
				send(ss, testbed.StatusFields(5, "real", "x-real", "trailer"))
				o := cs.Outcome()
				wantUpstream(t, o, 5, "real")
				require.Equal(t, "trailer", o.Trailers.Get("x-real"), shape)
				require.False(t, o.Headers.Has("x-early") || o.Trailers.Has("x-early"), shape)
			}
		}
		check()
	})
}
