package test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/framegate/framegate/conf"
	"github.com/framegate/framegate/test/testbed"
)

// refused is a request that is no call, and what its client is told.
type refused struct {
	fields testbed.Fields
	http   string
	code   int
	reason string
	text   string // of the message

	malformed bool // not even HTTP/2 allows it
}

// rest is the code of the reset that follows the answer to a refused request that has not ended.
func (r refused) rest() http2.ErrCode {
	if r.malformed && testbed.DataPlane() == conf.DataPlaneRelay {
		return http2.ErrCodeProtocol
	}
	return http2.ErrCodeNo
}

// request returns the fields of a request without those of the names.
func requestWithout(names ...string) testbed.Fields {
	var out testbed.Fields
	for _, f := range testbed.RequestFields() {
		if !strings.Contains(strings.Join(names, " "), f.Name) {
			out = append(out, f)
		}
	}
	return out
}

func refusals() map[string]refused {
	with := testbed.RequestFields
	notCall := func(fields testbed.Fields, text string) refused {
		return refused{fields, "200", 13, "bad_request", text, false}
	}
	malformed := func(fields testbed.Fields, text string) refused {
		return refused{fields, "200", 13, "bad_request", text, true}
	}
	large := func(fields testbed.Fields) refused {
		return refused{fields, "200", 8, "headers_too_large", "max_header_bytes", false}
	}
	notGRPC := func(fields testbed.Fields, text string) refused {
		return refused{fields, "415", 3, "bad_request", text, false}
	}
	notPOST := func(fields testbed.Fields, text string) refused {
		return refused{fields, "405", 13, "bad_request", text, false}
	}
	all := map[string]refused{
		"no content-type":                   notGRPC(requestWithout("content-type"), "no content-type"),
		"a foreign content-type":            notGRPC(with().Replace("content-type", "application/json"), `"application/json"`),
		"gRPC-web":                          notGRPC(with().Replace("content-type", "application/grpc-web+proto"), "grpc-web"),
		"an empty content-type":             notGRPC(with().Replace("content-type", ""), "no content-type"),
		"a content-type that is like gRPC":  notGRPC(with().Replace("content-type", "application/grpcx"), "grpcx"),
		"a content-type of control letters": notGRPC(with().Replace("content-type", "text/\u202e\u009b"), `\u202e`),
		"GET without content-type":          notPOST(testbed.NewFields(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a"), `"GET"`),
		"CONNECT":                           notPOST(testbed.NewFields(":method", "CONNECT", ":authority", "a:1"), `"CONNECT"`),
		"metadata over the limit":           large(with(thousandFields(1000)...)),
		"one header of 70 KB":               large(with("x-large", strings.Repeat("v", 70<<10))),
		"one header of 700 KB":              large(with("x-large", strings.Repeat("v", 700<<10))),
		"a path of 70 KB":                   large(with().Replace(":path", "/"+strings.Repeat("p", 70<<10)+"/Call")),
		"a name of 70 KB":                   large(with(strings.Repeat("n", 70<<10), "v")),
		"too large before its content-type": large(requestWithout("content-type").With("x-large", strings.Repeat("v", 70<<10), "content-type", "application/grpc")),
		"no method":                         malformed(requestWithout(":method"), ":method"),
		"two methods":                       malformed(testbed.NewFields(":method", "POST").With(":method", "POST", ":path", "/a.B/C", "content-type", "application/grpc"), ":method"),
		"a pseudo-header behind":            malformed(requestWithout(":path").With(":path", testbed.Method), ":path"),
		"an unknown pseudo-header":          malformed(testbed.NewFields(":protocol", "x").With(":method", "POST", "content-type", "application/grpc"), ":protocol"),
		"a response's pseudo-header":        malformed(append(testbed.NewFields(":status", "200"), with()...), ":status"),
		"a method with a space":             malformed(with().Replace(":method", "POST "), ":method"),
		"a name in upper case":              malformed(with("X-Upper", "v"), "X-Upper"),
		"a name with a space":               malformed(with("x y", "v"), "x y"),
		"a name without letters":            malformed(with("", "v"), `""`),
		"a value with a line break":         malformed(with("x-evil", "a\r\nb: c"), "x-evil"),
		"a value with a NUL":                malformed(with("x-evil", "a\x00b"), "x-evil"),
	}
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "post"} {
		all[method] = notPOST(with().Replace(":method", method), fmt.Sprintf("%q", method))
	}
	for _, timeout := range []string{"123456789S", "Infinitym", "", "S", "1", "1x", "-5S", "+5S", "1.5S", " 5S", "5 S", "99999999999999999999S", "0x1S"} {
		all["grpc-timeout "+timeout] = notCall(with("grpc-timeout", timeout), "grpc-timeout")
	}
	unusable := map[string][]string{"grpc-status-details-bin": {"!"}, "grpc-tags-bin": {"!"}, "grpc-trace-bin": {"a"}}
	if testbed.DataPlane() == conf.DataPlaneKitex { // Kitex reads fields of answers in requests, too
		all["a method with a space"] = notPOST(with().Replace(":method", "POST "), `"POST "`)
		unusable["biz-extra"] = []string{"{", "[]", `{"a":1}`, "x"}
		unusable["biz-status"] = []string{"x", "99999999999999999999"}
		unusable["grpc-status"] = []string{"x"}
		unusable["grpc-status-details-bin"] = []string{"!", "////"}
	}
	for name, values := range unusable {
		for _, v := range values {
			all[name+" "+v] = notCall(with(name, v), name)
		}
	}
	return all
}

func thousandFields(n int) (pairs []string) {
	for i := range n {
		pairs = append(pairs, fmt.Sprintf("x-many-%d", i), strings.Repeat("v", 60))
	}
	return pairs
}

// What Kitex resets without a word, or closes the client's connection for, gets an answer, a count and a line in the access
// log. It costs nobody else anything, and no endpoint sees it.
func TestRefusal_EachIsAnsweredCountedAndLogged(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "access.log")
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr), testbed.Admin(), testbed.AccessLog(log))
	p := rawPair{client: testbed.DialH2(t, proxy.Addr), server: server}
	check := neighbours(t, p, 3)
	lines := map[string]int{}
	for name, r := range refusals() {
		for _, whole := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, whole %t", name, whole), func(t *testing.T) {
				open := p.client.Open
				if whole {
					open = p.client.OpenEnd
				}
				cs := open(t, r.fields)
				o := cs.Outcome()
				if r.http == "405" && !onKitex() { // for people, too
					wantPage(t, o, r)
				} else {
					require.True(t, o.TrailersOnly(), "%s", o)
					require.Equal(t, []string{r.http}, o.Trailers.Values(":status"))
					require.Equal(t, []string{"application/grpc"}, o.Trailers.Values("content-type"))
					wantLocal(t, o, r.code, r.reason)
					require.Contains(t, o.Message(), r.text)
				}
				if r.http == "405" {
					require.Equal(t, "POST", append(o.Headers, o.Trailers...).Get("allow"))
				}
				if !whole {
					code, _ := cs.AwaitReset()
					require.Equal(t, r.rest(), code, "the rest of the request is not wanted")
					require.NoError(t, p.client.Write(func(fr *http2.Framer) error { return fr.WriteData(cs.ID, true, []byte("was on its way")) }))
				}
			})
			lines[r.reason]++
		}
		if len(name)%4 == 0 { // calls go on, with what has become of the tables
			cs, ss, got := p.open(t, testbed.RequestFields("x-name", name))
			require.Equal(t, testbed.Method, got.Get(":path"))
			require.Equal(t, []string{name}, got.Values("x-name"))
			cs.SendEnd(testbed.Frame(text("request")))
			ss.WantMessage(string(text("request")))
			answer(ss, "reply")
			wantAnswer(t, cs, "reply")
		}
	}
	check()
	require.Zero(t, server.Unaccepted(), "requests at the endpoint")
	wanted := []string{`framegate_listener_calls{listener="main"} 0`}
	for reason, n := range lines {
		wanted = append(wanted, fmt.Sprintf(`framegate_local_errors_total{backend="",reason=%q,route=""} %d`, reason, n))
	}
	wantMetrics(t, proxy, wanted...)
	proxy.Stop()
	written, err := os.ReadFile(log)
	require.NoError(t, err)
	for reason, n := range lines {
		require.Equal(t, n, strings.Count(string(written), fmt.Sprintf(`"reason":%q`, reason)), "lines of the access log with %s", reason)
	}
}

// wantPage checks the answer to a request that no client of gRPC sends.
func wantPage(t *testing.T, o testbed.Outcome, r refused) {
	t.Helper()
	all := append(o.Headers, o.Trailers...)
	require.Equal(t, []string{r.http}, all.Values(":status"))
	require.Equal(t, []string{"text/plain; charset=utf-8"}, all.Values("content-type"))
	require.Equal(t, []string{strconv.Itoa(r.code)}, all.Values("grpc-status"))
	require.Equal(t, []string{r.reason}, all.Values("framegate-error"))
	if !o.TrailersOnly() { // HEAD has no content
		require.Contains(t, string(o.Body), r.text)
	}
}

// A client need not wait for the server's SETTINGS before its first request (RFC 9113 §3.4), but they are the first that it
// hears, also where that request is refused. The calls behind it are none the worse.
func TestRefusal_OfTheFirstRequestComesAfterTheSettings(t *testing.T) {
	t.Parallel()
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RouteTo(server.Addr))
	for name, r := range refusals() {
		t.Run(name, func(t *testing.T) {
			nc, in := sendAtOnce(t, proxy.Addr, func(fr *http2.Framer) {
				var block bytes.Buffer
				enc := hpack.NewEncoder(&block)
				for i, fields := range []testbed.Fields{r.fields, testbed.RequestFields()} {
					block.Reset()
					for _, f := range fields {
						require.NoError(t, enc.WriteField(hpack.HeaderField{Name: f.Name, Value: f.Value}))
					}
					first := block.Next(1 << 14)
					require.NoError(t, fr.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: first, EndStream: true, EndHeaders: block.Len() == 0}))
					for block.Len() > 0 {
						next := block.Next(1 << 14)
						require.NoError(t, fr.WriteContinuation(uint32(2*i+1), block.Len() == 0, next))
					}
				}
			})
			answer(server.Accept(t), "reply")

			require.NoError(t, nc.SetReadDeadline(time.Now().Add(testbed.Patience)))
			in.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
			f, err := in.ReadFrame()
			require.NoError(t, err)
			require.IsType(t, &http2.SettingsFrame{}, f, "the first frame")
			require.False(t, f.(*http2.SettingsFrame).IsAck())
			for ended := map[uint32]string{}; len(ended) < 2; {
				f, err := in.ReadFrame()
				require.NoError(t, err)
				h, ok := f.(*http2.MetaHeadersFrame)
				if !ok {
					continue
				}
				for _, field := range h.Fields {
					if field.Name == "grpc-status" {
						ended[h.StreamID] = field.Value
						require.Equal(t, map[uint32]string{1: strconv.Itoa(r.code), 3: "0"}[h.StreamID], field.Value, "stream %d", h.StreamID)
					}
				}
			}
		})
	}
}

// What gRPC allows goes on as before.
func TestRefusal_OddButGoodRequestsAreForwarded(t *testing.T) {
	t.Parallel()
	p := newRawPair(t, proxied)
	for _, fields := range []testbed.Fields{
		testbed.RequestFields("grpc-timeout", "99999999H"),
		testbed.RequestFields("grpc-timeout", "10000S"),
		testbed.RequestFields().Replace("content-type", "application/grpc+proto"),
		testbed.RequestFields().Replace("content-type", "application/grpc;proto"),
		testbed.RequestFields("biz-extra", `{"a":"b"}`, "biz-status", "4", "grpc-status", "7"),
		testbed.RequestFields("x-tab", "a\tb", "x-utf8", "ä", "x-empty", ""),
		testbed.RequestFields("x-large", strings.Repeat("v", 60<<10)),
		testbed.RequestFields("grpc-trace-bin", "AAA", "x-bin", "AAA="),
	} {
		cs, ss, _ := p.open(t, fields)
		cs.SendEnd(testbed.Frame(text("request")))
		ss.WantMessage(string(text("request")))
		answer(ss, "reply")
		wantAnswer(t, cs, "reply")
	}
}

// Trailers of a request, which gRPC does not know, closed the connection. They end the request.
func TestRefusal_TrailersOfARequestEndIt(t *testing.T) {
	t.Parallel()
	p := newRawPair(t, proxied)
	check := neighbours(t, p, 2)
	for range 2 {
		cs, ss, _ := p.open(t, testbed.RequestFields())
		cs.Send(testbed.Frame(text("request")))
		cs.SendTrailers(testbed.NewFields("x-checksum", "1"))
		ss.WantMessage(string(text("request")))
		ss.WantEnd()
		answer(ss, "reply")
		wantAnswer(t, cs, "reply")
	}
	cs, ss, _ := p.open(t, testbed.RequestFields())
	cs.SendHeaders(testbed.NewFields("x-middle", "1")) // RFC 9113 §8.1: they must end the stream
	code, _ := cs.AwaitReset()
	require.Equal(t, http2.ErrCodeProtocol, code)
	code, _ = ss.AwaitReset()
	require.Equal(t, http2.ErrCodeCancel, code)
	check()
}

// A block that cannot be decoded leaves nothing to go on with: the client hears why.
func TestRefusal_UndecodableBlockEndsTheConnection(t *testing.T) {
	t.Parallel()
	proxy := testbed.NewProxy(t, "routes: []")
	c := testbed.DialH2(t, proxy.Addr)
	wantLocal(t, c.OpenEnd(t, testbed.RequestFields()).Outcome(), 12, "no_route") // who is being written to may not hear why
	require.NoError(t, c.Write(func(fr *http2.Framer) error {
		return fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: []byte{0xff, 0xff, 0xff}, EndHeaders: true})
	}))
	g := c.AwaitGoAway(t)
	require.Equal(t, http2.ErrCodeCompression, g.Code)
	require.Equal(t, "bad_header_block", g.Debug)
	c.AwaitClosed(t)
}

// Also that comes after the SETTINGS, where it is the first that the client sends.
func TestRefusal_UndecodableFirstBlockIsToldAfterTheSettings(t *testing.T) {
	t.Parallel()
	proxy := testbed.NewProxy(t, "routes: []")
	nc, in := sendAtOnce(t, proxy.Addr, func(fr *http2.Framer) {
		require.NoError(t, fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff}, EndHeaders: true}))
	})
	require.NoError(t, nc.SetDeadline(time.Now().Add(testbed.Patience)))
	f, err := in.ReadFrame()
	require.NoError(t, err)
	require.IsType(t, &http2.SettingsFrame{}, f)
	for {
		f, err := in.ReadFrame()
		require.NoError(t, err)
		if g, ok := f.(*http2.GoAwayFrame); ok {
			require.Equal(t, http2.ErrCodeCompression, g.ErrCode)
			return
		}
	}
}
