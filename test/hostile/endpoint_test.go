package hostile

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/testbed"
)

// illness is what an endpoint does that it must not do, with a call whose request has come whole.
type illness struct {
	name     string
	answered bool // it has sent headers before
	sent     func(stream uint32) []byte

	code   int    // of the call
	reason string // why framegate has ended it; empty if the status is the endpoint's

	of  scope
	why http2.ErrCode // of the RST_STREAM or the GOAWAY that the endpoint gets
}

// wholeRequest is the request of a call of a raw endpoint.
var wholeRequest = testbed.Frame([]byte("request"))

// goodAnswer returns what an honest endpoint answers.
var goodAnswer = both(both(answers(false, testbed.ResponseFields()), data(false, testbed.Frame([]byte("reply"))...)), answers(true, testbed.StatusFields(0, "")))

// wantAnswered makes a call that is answered by the server, and returns the server's end of it.
func wantAnswered(t *testing.T, c *testbed.H2Conn, method string, server *testbed.H2Server) *testbed.H2Stream {
	t.Helper()
	s := c.Open(t, to(method))
	s.SendEnd(wholeRequest)
	up := server.Accept(t)
	require.NoError(t, up.Conn().WriteBytes(goodAnswer(up.ID)))
	o := s.Outcome()
	require.Equal(t, 0, o.Code(), "the next call: %s", o)
	require.Equal(t, testbed.Frame([]byte("reply")), o.Body)
	return up
}

// suffer makes a call of the method that meets the illness, and wants its outcome: for the call, for the endpoint, and for the calls
// after it.
func (i *illness) suffer(t *testing.T, addr, method string, server *testbed.H2Server) {
	t.Helper()
	c := testbed.DialH2(t, addr)
	wantAnswered(t, c, method, server)
	s := c.Open(t, to(method))
	s.SendEnd(wholeRequest)
	up := server.Accept(t)
	if i.answered {
		require.NoError(t, up.Conn().WriteBytes(answers(false, testbed.ResponseFields())(up.ID)))
	}
	_ = up.Conn().WriteBytes(i.sent(up.ID)) // what is long may be refused before its end
	o := s.Outcome()
	require.Equal(t, i.code, o.Code(), "%s", o)
	require.Equal(t, i.reason, o.Reason(), "%s", o)
	switch i.of {
	case ofConn:
		require.Equal(t, i.why, up.Conn().AwaitGoAway(t).Code, "of the GOAWAY")
		up.Conn().AwaitClosed(t)
	case ofStream:
		code, _ := up.AwaitReset()
		require.Equal(t, i.why, code, "of the RST_STREAM")
	}
	next := wantAnswered(t, c, method, server)
	require.Equal(t, i.of == ofConn, up.Conn() != next.Conn(), "the next call is on another connection")
	wantGood(t, c)
}

// answers returns what returns header blocks, the last of which ends the stream if end is set.
func answers(end bool, blocks ...testbed.Fields) func(stream uint32) []byte {
	return func(stream uint32) (b []byte) {
		for i, fields := range blocks {
			flags := http2.FlagHeadersEndHeaders
			if end && i == len(blocks)-1 {
				flags |= http2.FlagHeadersEndStream
			}
			b = append(b, frame(http2.FrameHeaders, flags, stream, block(fields)...)...)
		}
		return b
	}
}

// data returns what returns DATA.
func data(end bool, payload ...byte) func(stream uint32) []byte {
	flags := http2.Flags(0)
	if end {
		flags = endStream
	}
	return func(stream uint32) []byte { return frame(http2.FrameData, flags, stream, payload...) }
}

// both returns what returns one and then the other.
func both(one, other func(stream uint32) []byte) func(stream uint32) []byte {
	return func(stream uint32) []byte { return append(one(stream), other(stream)...) }
}

// badAnswers are answers that are malformed by HTTP/2, or no answers of gRPC.
func badAnswers() (all []illness) {
	ok, status := testbed.ResponseFields, testbed.StatusFields(0, "")
	add := func(name string, answered bool, sent func(uint32) []byte, code int, reason string, of scope, why http2.ErrCode) {
		all = append(all, illness{name, answered, sent, code, reason, of, why})
	}
	const framing = "bad_response_framing"

	// Malformed (RFC 9113 §8.1.1): a stream error of the endpoint's.
	for name, fields := range inOrder(map[string]testbed.Fields{
		"no :status":              testbed.NewFields("content-type", "application/grpc"),
		"no fields":               nil,
		"two :status":             append(testbed.NewFields(":status", "200"), ok()...),
		":status behind a field":  testbed.NewFields("content-type", "application/grpc", ":status", "200"),
		":status abc":             ok().Replace(":status", "abc"),
		":status 99":              ok().Replace(":status", "99"),
		":status 2000":            ok().Replace(":status", "2000"),
		"an empty :status":        ok().Replace(":status", ""),
		":status 101":             ok().Replace(":status", "101"), // RFC 9113 §8.6
		"a :path":                 append(testbed.NewFields(":path", "/a.B/C"), ok()...),
		"an unknown pseudo-field": append(testbed.NewFields(":foo", "x"), ok()...),
		"a name in upper case":    ok("X-Upper", "v"),
		"a name with a space":     ok("x y", "v"),
		"no name":                 ok("", "v"),
		"a value with LF":         ok("x-evil", "a\nb"),
		"a value with CR LF":      ok("x-evil", "a\r\nb: c"),
		"a value with NUL":        ok("x-evil", "a\x00b"),
		"connection":              ok("connection", "close"),
		"transfer-encoding":       ok("transfer-encoding", "chunked"),
		"a bad content-length":    ok("content-length", "x"),
	}) {
		add("an answer: "+name, false, answers(false, fields), 13, framing, ofStream, protocol)
		add("an answer of trailers only: "+name, false, answers(true, append(fields, status...)), 13, framing, ofStream, protocol)
	}
	for name, fields := range inOrder(map[string]testbed.Fields{
		"a pseudo-field":       status.With(":status", "200"),
		"only a pseudo-field":  testbed.NewFields(":status", "200"),
		"a name in upper case": status.With("X-Upper", "v"),
		"a value with LF":      status.With("x-evil", "a\nb"),
		"connection":           status.With("connection", "close"),
	}) {
		add("trailers: "+name, true, answers(true, fields), 13, framing, ofStream, protocol)
	}
	add("trailers without END_STREAM", true, answers(false, status), 13, framing, ofStream, protocol)
	add("an informational answer that ends the stream", false, answers(true, testbed.NewFields(":status", "103")), 13, framing, ofStream, protocol)
	add("DATA before the headers", false, data(false, 0, 0, 0, 0, 0), 13, framing, ofStream, protocol)
	add("END_STREAM before the headers", false, data(true), 13, framing, ofStream, protocol)
	add("more DATA than content-length", false, both(answers(false, ok("content-length", "5")), data(false, 0, 0, 0, 0, 1, 'x')), 13, framing, ofStream, protocol)
	add("less DATA than content-length", false, both(answers(false, ok("content-length", "6")), both(data(false, 0, 0, 0, 0, 0), answers(true, status))), 13, framing, ofStream, protocol)

	// No answers of gRPC: the call ends, and the endpoint's stream is no longer wanted.
	for name, i := range inOrder(map[string]struct {
		fields testbed.Fields
		code   int
	}{
		"status 404":      {testbed.NewFields(":status", "404"), 12},
		"status 503":      {testbed.NewFields(":status", "503", "content-type", "text/html"), 14},
		"status 204":      {testbed.NewFields(":status", "204"), 2},
		"text":            {ok().Replace("content-type", "text/html"), 2},
		"no content-type": {testbed.NewFields(":status", "200"), 2},
	}) {
		add("no gRPC: "+name, false, answers(false, i.fields), i.code, framing, ofStream, http2.ErrCodeCancel)
		add("no gRPC, and the end: "+name, false, answers(true, i.fields), i.code, framing, none, 0)
	}
	add("no trailers", true, data(true, 0, 0, 0, 0, 0), 13, framing, none, 0)
	add("neither DATA nor trailers", true, data(true), 13, framing, none, 0)
	for name, m := range inOrder(map[string]struct {
		data   []byte
		code   int
		reason string
	}{
		"a length of 0xffffffff":  {testbed.Prefix(0, 1<<32-1), 8, "message_too_large"},
		"a length over the limit": {testbed.Prefix(0, 64<<20+1), 8, "message_too_large"},
		"a flag of 7":             {testbed.Prefix(7, 1), 13, framing},
	}) {
		add("a message: "+name, true, data(false, m.data...), m.code, m.reason, ofStream, http2.ErrCodeCancel)
	}
	add("a message cut in its prefix", true, both(data(false, 0, 0), answers(true, status)), 13, framing, none, 0)
	add("a message cut in its payload", true, both(data(false, 0, 0, 0, 0, 9, 'x'), answers(true, status)), 13, framing, none, 0)

	// A status that is none becomes UNKNOWN.
	for _, code := range []string{"", "abc", "-1", "4294967296", "2147483648", "18446744073709551616", "99999999999999999999999999", "0x0", "1e1", " 0", "0 ", "0,0"} {
		fields := testbed.NewFields("grpc-status", code)
		add(fmt.Sprintf("grpc-status %q", code), true, answers(true, fields), 2, "", none, 0)
		add(fmt.Sprintf("trailers only with grpc-status %q", code), false, answers(true, append(ok(), fields...)), 2, "", none, 0)
	}
	add("no grpc-status", true, answers(true, testbed.NewFields("x-a", "b")), 2, "", none, 0)
	add("trailers only without grpc-status", false, answers(true, ok()), 2, "", none, 0)
	add("empty trailers", true, answers(true, nil), 2, "", none, 0)

	// What is too large costs its call.
	large := testbed.NewFields(manyFields(1 << 20)...)
	add("headers of 1 MiB", false, func(s uint32) []byte { return split(s, false, block(append(ok(), large...))) }, 8, "headers_too_large", ofStream, http2.ErrCodeCancel)
	add("trailers of 1 MiB", true, func(s uint32) []byte { return split(s, true, block(append(status, large...))) }, 8, "headers_too_large", none, 0)
	add("informational headers of 1 MiB", false, func(s uint32) []byte {
		return split(s, false, block(append(testbed.NewFields(":status", "103"), large...)))
	}, 8, "headers_too_large", ofStream, http2.ErrCodeCancel)
	add("a bomb", false, func(s uint32) []byte { return bomb(s, ok(), 200_000) }, 8, "headers_too_large", ofStream, http2.ErrCodeCancel)
	return all
}

// illOf returns the name of the method whose endpoint has an illness.
func illOf(i int) string { return fmt.Sprintf("/hostile.Ill/Call%d", i) }

// illRoutes returns routes to a new endpoint for each illness.
func illRoutes(t *testing.T, all []illness) (routes []route, servers []*testbed.H2Server) {
	t.Helper()
	for i := range all {
		servers = append(servers, testbed.NewH2Server(t))
		routes = append(routes, routeTo(illOf(i), servers[i]))
	}
	return routes, servers
}

// illAttacks makes calls that meet the illnesses, in both ways.
func illAttacks(t *testing.T, w *world, all []illness, servers []*testbed.H2Server) {
	for i, ill := range all {
		for _, way := range ways {
			w.attack(t, ill.name+", "+string(way), func(t *testing.T) {
				ill.suffer(t, w.proxy.Addr, way.of(illOf(i)), servers[i])
			})
		}
	}
}
