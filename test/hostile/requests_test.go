package hostile

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/testbed"
)

// rawMethod is of calls that a test answers itself.
const rawMethod = "/hostile.Raw/Call"

// rawRequest returns the fields of a request for it, and then the fields made of pairs.
func rawRequest(w way, pairs ...string) testbed.Fields { return to(w.of(rawMethod), pairs...) }

// without returns the fields of a request without those of some names.
func without(names string) (rest testbed.Fields) {
	for _, f := range rawRequest(relayed) {
		if !strings.Contains(names, f.Name) {
			rest = append(rest, f)
		}
	}
	return rest
}

// malformedRequests are malformed by RFC 9113 §8.1.1: they have an error of the stream, PROTOCOL_ERROR, and may have an answer before.
func malformedRequests() map[string]testbed.Fields {
	with := func(pairs ...string) testbed.Fields { return rawRequest(relayed, pairs...) }
	all := map[string]testbed.Fields{
		// RFC 9113 §8.2.1. It forbids spaces at the ends of a value too, which gRPC allows in metadata: framegate forwards them.
		"a name in upper case":            with("X-Upper", "v"),
		"one letter in upper case":        with("x-uppeR", "v"),
		"a name with CR":                  with("x\ry", "v"),
		"a name with LF":                  with("x\ny", "v"),
		"a name with NUL":                 with("x\x00y", "v"),
		"a name with a space":             with("x y", "v"),
		"a name that begins with a space": with(" x", "v"),
		"a name with a tab":               with("x\ty", "v"),
		"a name with a colon":             with("x:y", "v"),
		"a name with DEL":                 with("x\x7f", "v"),
		"a name that is not ASCII":        with("x\xc3\xa4", "v"),
		"no name":                         with("", "v"),
		"neither name nor value":          with("", ""),
		"a value with CR":                 with("x-evil", "a\rb"),
		"a value with LF":                 with("x-evil", "a\nb"),
		"a value with a header in it":     with("x-evil", "a\r\nx-more: b"),
		"a value with NUL":                with("x-evil", "a\x00b"),
		"a path with NUL":                 with().Replace(":path", "/hostile.Raw/CallRelayed\x00"),
		"a path with LF":                  with().Replace(":path", "/hostile.Raw/CallRelayed\n"),
		"an authority with CR LF":         with().Replace(":authority", "a\r\nb"),
		"a content-type with LF":          with().Replace("content-type", "application/grpc\n"),

		// RFC 9113 §8.3.
		"an unknown pseudo-field":            append(testbed.NewFields(":foo", "x"), with()...),
		"a pseudo-field without a name":      append(testbed.NewFields(":", "x"), with()...),
		"a pseudo-field in upper case":       append(testbed.NewFields(":Path", "/hostile.Raw/CallRelayed"), with()...),
		"a pseudo-field of an answer":        append(testbed.NewFields(":status", "200"), with()...),
		"a pseudo-field behind a field":      without(":path").With(":path", rawMethod),
		":authority behind a field":          without(":authority").With(":authority", "a"),
		"an unknown pseudo-field behind":     with(":foo", "x"),
		":protocol, which was not agreed":    append(testbed.NewFields(":protocol", "websocket"), with()...), // RFC 8441 §3
		"no :method":                         without(":method"),
		"no :scheme":                         without(":scheme"),
		"no :path":                           without(":path"),
		"an empty :path":                     with().Replace(":path", ""),
		"no fields":                          nil,
		"CONNECT with a path":                with().Replace(":method", "CONNECT"),
		"CONNECT without an authority":       testbed.NewFields(":method", "CONNECT"),
		"a path and an authority, no method": testbed.NewFields(":path", rawMethod, ":authority", "a"),

		// RFC 9113 §8.2.2.
		"te: gzip":              with().Replace("te", "gzip"),
		"te: trailers and more": with().Replace("te", "trailers, deflate"),
		"te that is empty":      with().Replace("te", ""),
		"a second te":           with("te", "gzip"),
	}
	for _, name := range []string{":method", ":scheme", ":path", ":authority"} {
		all["two of "+name] = append(testbed.NewFields(name, with().Get(name)), with()...)
	}
	for _, name := range []string{"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"} {
		all["the field "+name] = with(name, "x")
	}
	all["connection: close"] = with("connection", "close")
	all["transfer-encoding: chunked"] = with("transfer-encoding", "chunked")
	for _, length := range []string{"-1", "+5", "5x", "x", "", " 5", "0x5", "5,5", "5, 6", "18446744073709551616", "99999999999999999999999", "9223372036854775808"} {
		all["content-length: "+length] = with("content-length", length)
	}
	all["two content-lengths that differ"] = with("content-length", "5", "content-length", "6")
	return all
}

// refusedRequests are well-formed, and no calls of gRPC: by the code and the HTTP status of the answer.
func refusedRequests() map[string]refusal {
	with := func(pairs ...string) testbed.Fields { return rawRequest(relayed, pairs...) }
	all := map[string]refusal{
		"no content-type":            {without("content-type"), "415", 3},
		"an empty content-type":      {with().Replace("content-type", ""), "415", 3},
		"content-type of JSON":       {with().Replace("content-type", "application/json"), "415", 3},
		"content-type of gRPC-web":   {with().Replace("content-type", "application/grpc-web"), "415", 3},
		"content-type like gRPC":     {with().Replace("content-type", "application/grpcx"), "415", 3},
		"content-type in upper case": {with().Replace("content-type", "APPLICATION/GRPC"), "415", 3},
		"a path without a method":    {with().Replace(":path", "/a.B"), "200", 3},
		"a path without a slash":     {with().Replace(":path", "a.B/C"), "200", 3},
		"a path of an asterisk":      {with().Replace(":path", "*"), "200", 3},
		"a path that goes up":        {with().Replace(":path", "/../etc/passwd"), "200", 3},
		"a path with a query":        {with().Replace(":path", "/hostile.Raw/CallRelayed?x=1"), "200", 3},
		"a path with a control":      {with().Replace(":path", "/a.B/\x01"), "200", 13},
		"a value with a control":     {with("x-evil", "a\x1bb"), "200", 13},
		"binary that is no base64":   {with("x-bin", "!"), "200", 13},
		"CONNECT":                    {testbed.NewFields(":method", "CONNECT", ":authority", "a:1"), "405", 13},
	}
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PRI", "post", "POSTS", "P"} {
		all["method "+method] = refusal{with().Replace(":method", method), "405", 13}
	}
	for _, timeout := range []string{"", "S", "1", "1x", "1s", "-5S", "+5S", "1.5S", "5 S", "0x1S", "123456789S", "99999999999999999999S", "Infinity", "1SS"} {
		all["grpc-timeout: "+timeout] = refusal{with("grpc-timeout", timeout), "200", 13}
	}
	return all
}

type refusal struct {
	fields testbed.Fields
	http   string
	code   int
}

// wantRefused wants an answer that says that the request is bad, with one of the codes.
func wantRefused(t *testing.T, o testbed.Outcome, http string, codes ...int) {
	t.Helper()
	first := o.Headers // a client of HTTP gets a text as well
	if o.TrailersOnly() {
		first = o.Trailers
	}
	require.Equal(t, []string{http}, first.Values(":status"), "%s", o)
	require.Equal(t, "bad_request", first.Get("framegate-error"), "%s", o)
	code, err := strconv.Atoi(first.Get("grpc-status"))
	require.NoError(t, err)
	require.Contains(t, codes, code, "%s", o)
}

// requestAttacks makes requests that must not be forwarded. Each has its answer or its error, and the connection goes on with all
// others. The endpoint sees none of them.
func requestAttacks(t *testing.T, w *world, upstream *testbed.H2Server) {
	for name, fields := range inOrder(malformedRequests()) {
		w.attack(t, "malformed: "+name, func(t *testing.T) {
			c := testbed.DialH2(t, w.proxy.Addr)
			for range repeats {
				wantRefused(t, c.OpenEnd(t, fields).Outcome(), "200", 13, 3)
				wantStreamError(t, c.Open(t, fields), protocol)
				s := c.Open(t, fields)
				_ = s.TrySendEnd(testbed.Frame([]byte("on its way")))
				wantStreamError(t, s, protocol)
			}
		})
	}
	for name, r := range inOrder(refusedRequests()) {
		w.attack(t, "refused: "+name, func(t *testing.T) {
			c := testbed.DialH2(t, w.proxy.Addr)
			for range repeats {
				wantRefused(t, c.OpenEnd(t, r.fields).Outcome(), r.http, r.code)
				s := c.Open(t, r.fields)
				_ = s.TrySendEnd(testbed.Frame([]byte("on its way")))
				wantRefused(t, s.Outcome(), r.http, r.code)
				wantGood(t, c)
			}
		})
	}
	require.Zero(t, upstream.Unaccepted(), "bad requests at the endpoint")
	badTrailers(t, w, upstream)
	badLengths(t, w, upstream)
	badMessages(t, w, upstream)
}

// repeats is how often an attack that takes no time is made, so that the honest load can suffer from it.
var repeats = race.Choose(10, 2)

// Trailers of a request are checked as its headers are.
func badTrailers(t *testing.T, w *world, upstream *testbed.H2Server) {
	for name, fields := range inOrder(map[string]testbed.Fields{
		"a pseudo-field":       testbed.NewFields("x-a", "b").With(":path", "/hostile.Raw/CallRelayed"), // RFC 9113 §8.1
		"only a pseudo-field":  testbed.NewFields(":method", "POST"),
		"a name in upper case": testbed.NewFields("X-A", "b"),
		"a value with LF":      testbed.NewFields("x-a", "b\nc"),
		"connection":           testbed.NewFields("connection", "close"),
		"no name":              testbed.NewFields("", ""),
	}) {
		w.attack(t, "trailers: "+name, func(t *testing.T) {
			for _, way := range ways {
				s := testbed.DialH2(t, w.proxy.Addr).Open(t, rawRequest(way))
				up := upstream.Accept(t)
				s.SendTrailers(fields)
				wantStreamError(t, s, protocol)
				wantCancelled(t, up)
			}
		})
	}
}

// wantCancelled wants the endpoint to be told that the call has ended, and not that its request was whole.
func wantCancelled(t *testing.T, up *testbed.H2Stream) {
	t.Helper()
	code, _ := up.AwaitReset()
	require.Equal(t, http2.ErrCodeCancel, code)
	require.NotContains(t, up.History(), "END_STREAM")
}

// A content-length that differs from the DATA is malformed (RFC 9113 §8.1.1).
func badLengths(t *testing.T, w *world, upstream *testbed.H2Server) {
	message := testbed.Frame([]byte("hello"))
	for name, send := range inOrder(map[string]func(s *testbed.H2Stream){
		"less DATA":                 func(s *testbed.H2Stream) { s.SendEnd(message[:9]) },
		"more DATA":                 func(s *testbed.H2Stream) { s.Send(append(message, 0)) },
		"more DATA with END_STREAM": func(s *testbed.H2Stream) { s.SendEnd(append(message, 0)) },
		"more DATA, later":          func(s *testbed.H2Stream) { s.Send(message); _ = s.TrySend([]byte{0}) },
		"no DATA":                   func(s *testbed.H2Stream) { s.SendEnd(nil) },
		"trailers in place of DATA": func(s *testbed.H2Stream) { s.SendTrailers(testbed.NewFields("x-a", "b")) },
	}) {
		w.attack(t, "content-length: "+name, func(t *testing.T) {
			for _, way := range ways {
				s := testbed.DialH2(t, w.proxy.Addr).Open(t, rawRequest(way, "content-length", fmt.Sprint(len(message))))
				up := upstream.Accept(t)
				send(s)
				wantStreamError(t, s, protocol)
				wantCancelled(t, up)
			}
		})
	}
	w.attack(t, "content-length: of a request that has ended", func(t *testing.T) {
		s := testbed.DialH2(t, w.proxy.Addr).OpenEnd(t, rawRequest(relayed, "content-length", "10"))
		wantStreamError(t, s, protocol)
		require.Zero(t, upstream.Unaccepted(), "requests at the endpoint")
	})
}
