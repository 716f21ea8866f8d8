package test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/framegate/framegate/handler/structmode/compress"
	"github.com/framegate/framegate/test/refusing"
	"github.com/framegate/framegate/test/testbed"
)

const rawProto = `package test; message M { string text = 1; } service Raw { rpc Call(stream M) returns (stream M); }`

// marking leads through rules that change every message whose text does not begin with "keep".
func marking(t testing.TB) via {
	return ruled([]string{protoFile(t, rawProto)}, `[
{on: request, when: '!message.text.startsWith("keep")', action: set, fields: {text: '"up " + message.text'}},
{on: response, when: '!message.text.startsWith("keep")', action: set, fields: {text: '"down " + message.text'}}]`)
}

// passing is a route that looks at each message and forwards what it cannot decode.
func passing(t testing.TB, backend string) string {
	t.Helper()
	return testbed.NewProxy(t, testbed.RouteWith(backend, fmt.Sprintf(
		"mode: struct\n  schema: {files: [%q]}\n  struct: {on_decode_error: pass, rules: [{on: request, action: set, fields: {text: '\"new\"'}}]}",
		protoFile(t, rawProto)))).Addr
}

// encoded is a message as its encoding has it.
func encoded(t testing.TB, encoding string, payload []byte) testbed.Message {
	t.Helper()
	codec, ok := compress.Get(encoding)
	require.True(t, ok, "encoding %s", encoding)
	b, err := codec.Compress(nil, payload)
	require.NoError(t, err)
	return testbed.Message{Flag: 1, Payload: b}
}

// decoded are the messages in body, of which compressed says whether each was.
func decoded(t testing.TB, encoding string, body []byte) (texts []string, compressed []bool) {
	t.Helper()
	all, err := testbed.Messages(body)
	require.NoError(t, err)
	for _, m := range all {
		if m.Flag == 1 {
			codec, _ := compress.Get(encoding)
			m.Payload, err = codec.Decompress(m.Payload, 0)
			require.NoError(t, err)
		}
		texts, compressed = append(texts, string(m.Payload)), append(compressed, m.Flag == 1)
	}
	return texts, compressed
}

// Compressed and plain messages may follow each other. What a rule changes is compressed as it was, what none changes is
// not touched: its bytes are those of the peer's own compressor.
func TestStruct_ChangesCompressedMessages(t *testing.T) {
	t.Parallel()
	to := marking(t)
	for _, pair := range [][2]string{{"gzip", "zstd"}, {"zstd", "snappy"}, {"snappy", "deflate"}, {"deflate", "gzip"}} {
		up, down := pair[0], pair[1]
		t.Run(up+" and "+down, func(t *testing.T) {
			p := newRawPair(t, to)
			cs, ss, request := p.open(t, testbed.RequestFields("grpc-encoding", up))
			require.Equal(t, []string{up}, request.Values("grpc-encoding"), "grpc-encoding at the upstream")
			long := "keep" + string(bytes.Repeat([]byte("long "), 10_000))
			kept := encoded(t, up, text(long)).Bytes()
			body := append(encoded(t, up, text("one")).Bytes(), testbed.Frame(text("two"))...)
			cs.SendEnd(append(body, kept...))
			got := ss.Outcome().Body
			texts, compressed := decoded(t, up, got)
			require.Equal(t, []string{string(text("up one")), string(text("up two")), string(text(long))}, texts)
			require.Equal(t, []bool{true, false, true}, compressed)
			require.True(t, bytes.HasSuffix(got, kept), "a message that no rule changes is forwarded as it came")

			ss.SendHeaders(testbed.ResponseFields("grpc-encoding", down))
			ss.Send(append(encoded(t, down, text("three")).Bytes(), encoded(t, down, text("keep me")).Bytes()...))
			ss.SendTrailers(testbed.StatusFields(0, ""))
			o := cs.Outcome()
			require.Equal(t, []string{down}, o.Headers.Values("grpc-encoding"), "grpc-encoding at the client")
			texts, compressed = decoded(t, down, o.Body)
			require.Equal(t, []string{string(text("down three")), string(text("keep me"))}, texts)
			require.Equal(t, []bool{true, true}, compressed)
			wantUpstream(t, o, 0, "")
		})
	}
}

// The endpoint is not told of encodings that could not be decoded here, unless those pass.
func TestStruct_AcceptEncodingIsWhatCanBeDecoded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		to   via
		want []string
	}{
		"reject": {structured, []string{"gzip,zstd"}},
		"pass":   {passing, []string{"gzip,br,zstd,some-other"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newRawPair(t, c.to)
			_, _, request := p.open(t, testbed.RequestFields("grpc-accept-encoding", "gzip,br,zstd,some-other"))
			require.Equal(t, c.want, request.Values("grpc-accept-encoding"))
		})
	}
}

func TestStruct_ContentSubtypes(t *testing.T) {
	t.Parallel()
	to := marking(t)
	for subtype, c := range map[string]struct{ sent, atServer, answer, atClient string }{
		"":       {string(text("a")), string(text("up a")), string(text("b")), string(text("down b"))},
		"+proto": {string(text("a")), string(text("up a")), string(text("b")), string(text("down b"))},
		"+json":  {`{"text": "a"}`, `{"text":"up a"}`, `{"text": "keep", "more": [1]}`, `{"text": "keep", "more": [1]}`},
	} {
		t.Run("application/grpc"+subtype, func(t *testing.T) {
			p := newRawPair(t, to)
			contentType := "application/grpc" + subtype
			cs, ss, request := p.open(t, testbed.RequestFields().Replace("content-type", contentType))
			require.Equal(t, []string{contentType}, request.Values("content-type"), "at the upstream")
			cs.SendEnd(testbed.Frame([]byte(c.sent)))
			wantBody(t, ss.Outcome().Body, c.atServer, subtype)
			ss.SendHeaders(testbed.ResponseFields().Replace("content-type", contentType))
			ss.Send(testbed.Frame([]byte(c.answer)))
			ss.SendTrailers(testbed.StatusFields(0, ""))
			o := cs.Outcome()
			wantUpstream(t, o, 0, "")
			wantBody(t, o.Body, c.atClient, subtype)
		})
	}
}

// wantBody checks that body is one message. ProtoJSON's white space is not the same in every process.
func wantBody(t testing.TB, body []byte, want, subtype string) {
	t.Helper()
	all, err := testbed.Messages(body)
	require.NoError(t, err)
	require.Len(t, all, 1, "messages")
	if subtype == "+json" {
		require.JSONEq(t, want, string(all[0].Payload))
		return
	}
	require.Equal(t, want, string(all[0].Payload))
}

// What cannot be decoded ends the call, and where that is known from the headers it never gets to the endpoint.
func TestStruct_WhatCannotBeDecodedIsRefused(t *testing.T) {
	t.Parallel()
	gzipped := encoded(t, "gzip", text("a"))
	for name, c := range map[string]struct {
		fields testbed.Fields
		body   []byte
		code   int
		reason string
	}{
		"thrift":             {testbed.RequestFields().Replace("content-type", "application/grpc+thrift"), testbed.Frame(text("a")), 12, "decode_failed"},
		"no such method":     {testbed.RequestFields().Replace(":path", "/test.Raw/Other"), testbed.Frame(text("a")), 12, "decode_failed"},
		"malformed":          {testbed.RequestFields(), testbed.Frame([]byte{0x0a, 5, 'a'}), 3, "decode_failed"},
		"malformed later":    {testbed.RequestFields(), append(testbed.Frame(text("a")), testbed.Frame([]byte{7})...), 3, "decode_failed"},
		"not UTF-8":          {testbed.RequestFields(), testbed.Frame(text("\xff")), 3, "decode_failed"},
		"malformed JSON":     {testbed.RequestFields().Replace("content-type", "application/grpc+json"), testbed.Frame([]byte("{")), 3, "decode_failed"},
		"JSON with a loss":   {testbed.RequestFields().Replace("content-type", "application/grpc+json"), testbed.Frame([]byte(`{"text": "a", "more": 1}`)), 3, "decode_failed"},
		"unknown encoding":   {testbed.RequestFields("grpc-encoding", "br"), testbed.Message{Flag: 1, Payload: []byte("x")}.Bytes(), 12, "decode_failed"},
		"damaged gzip":       {testbed.RequestFields("grpc-encoding", "gzip"), testbed.Message{Flag: 1, Payload: gzipped.Payload[:12]}.Bytes(), 3, "decode_failed"},
		"compressed without": {testbed.RequestFields(), gzipped.Bytes(), 13, "decode_failed"},
		"compressed, not":    {testbed.RequestFields("grpc-encoding", "identity"), testbed.Message{Flag: 1, Payload: text("a")}.Bytes(), 13, "decode_failed"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newRawPair(t, marking(t))
			cs := p.client.Open(t, c.fields)
			_ = cs.TrySendEnd(c.body) // the answer may be faster
			wantLocal(t, cs.Outcome(), c.code, c.reason)
		})
	}
	t.Run("response", func(t *testing.T) {
		p := newRawPair(t, marking(t))
		cs, ss, _ := p.open(t, testbed.RequestFields())
		ss.SendHeaders(testbed.ResponseFields())
		ss.Send(append(testbed.Frame(text("good")), testbed.Frame([]byte{7})...))
		o := cs.Outcome()
		wantLocal(t, o, 3, "decode_failed")
		require.Equal(t, testbed.Frame(text("down good")), o.Body)
		ss.AwaitReset()
	})
}

// What a route does with a content-type does not hang on whether it has rules, a schema or neither.
func TestStruct_ContentTypesHaveOneAnswer(t *testing.T) {
	t.Parallel()
	schema := fmt.Sprintf("schema: {files: [%q]}", protoFile(t, rawProto))
	for name, route := range map[string]string{
		"rules":                   "mode: struct\n  " + schema + "\n  struct: {rules: [{on: request, when: 'message.text == \"no\"', action: reject}]}",
		"schema alone":            "mode: struct\n  " + schema,
		"neither":                 "mode: struct",
		"no schema, an empty key": "mode: struct\n  struct: {on_decode_error: reject}",
		"neither, pass":           "mode: struct\n  struct: {on_decode_error: pass}",
		"schema alone, pass":      "mode: struct\n  " + schema + "\n  struct: {on_decode_error: pass}",
	} {
		t.Run(name, func(t *testing.T) {
			p := newRawPair(t, func(t testing.TB, backend string) string {
				return testbed.NewProxy(t, testbed.RouteWith(backend, route)).Addr
			})
			for contentType, good := range map[string]bool{
				"application/grpc": true, "application/grpc+proto": true, "application/grpc+json": true,
				"application/grpc+thrift": false, "application/grpc+flatbuffers": false, "application/grpc;thrift": false,
			} {
				t.Run(contentType, func(t *testing.T) {
					fields, body := testbed.RequestFields().Replace("content-type", contentType), testbed.Frame(text("a"))
					if strings.HasSuffix(contentType, "+json") {
						body = testbed.Frame([]byte(`{"text": "a"}`))
					}
					if !good && !strings.Contains(name, "pass") {
						cs := p.client.Open(t, fields)
						_ = cs.TrySendEnd(body)
						o := cs.Outcome()
						wantLocal(t, o, 12, "decode_failed")
						require.Contains(t, o.Message(), "cannot be decoded, want +proto or +json")
						return
					}
					cs, ss, _ := p.open(t, fields)
					cs.SendEnd(body)
					require.Equal(t, body, ss.Outcome().Body)
					ss.SendTrailers(append(testbed.ResponseFields().Replace("content-type", contentType), testbed.StatusFields(0, "")...))
					wantUpstream(t, cs.Outcome(), 0, "")
				})
			}
		})
	}
}

// With pass, what cannot be decoded goes through as it came, beside messages that are changed.
func TestStruct_WhatCannotBeDecodedPasses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fields     testbed.Fields
		sent, want []byte
	}{
		"thrift":           {testbed.RequestFields().Replace("content-type", "application/grpc+thrift"), testbed.Frame([]byte{7}), testbed.Frame([]byte{7})},
		"no such method":   {testbed.RequestFields().Replace(":path", "/test.Raw/Other"), testbed.Frame([]byte{7}), testbed.Frame([]byte{7})},
		"malformed":        {testbed.RequestFields(), testbed.Frame([]byte{7}), testbed.Frame([]byte{7})},
		"beside good ones": {testbed.RequestFields(), append(testbed.Frame(text("a")), testbed.Frame([]byte{7})...), append(testbed.Frame(text("new")), testbed.Frame([]byte{7})...)},
		"unknown encoding": {testbed.RequestFields("grpc-encoding", "br"), testbed.Message{Flag: 1, Payload: []byte("x")}.Bytes(), testbed.Message{Flag: 1, Payload: []byte("x")}.Bytes()},
	} {
		t.Run(name, func(t *testing.T) {
			p := newRawPair(t, passing)
			cs, ss, _ := p.open(t, c.fields)
			cs.SendEnd(c.sent)
			request := ss.Outcome()
			require.True(t, request.Ended, "END_STREAM at the upstream; got %s", request)
			require.Equal(t, c.want, request.Body)
			ss.SendTrailers(append(testbed.ResponseFields(), testbed.StatusFields(0, "")...))
			wantUpstream(t, cs.Outcome(), 0, "")
		})
	}
}

// The limit holds for a message as it comes, as it is decompressed, and as the rules leave it.
func TestStruct_LimitHoldsBeforeAndAfterDecoding(t *testing.T) {
	t.Parallel()
	const limit = 1000
	server := testbed.NewH2Server(t)
	proxy := testbed.NewProxy(t, testbed.RuledRouteTo(server.Addr, []string{protoFile(t, rawProto)},
		`[{on: request, when: 'message.text == "grow"', action: set, fields: {text: '"`+string(bytes.Repeat([]byte("x"), limit))+`"'}}]`),
		testbed.MaxMessageBytes(limit))
	for name, c := range map[string]struct {
		body    []byte
		refused bool
	}{
		"plain at the limit":        {testbed.Frame(field1(limit)), false},
		"plain over the limit":      {testbed.Frame(field1(limit + 1)), true},
		"compressed at the limit":   {encoded(t, "gzip", field1(limit)).Bytes(), false},
		"compressed over the limit": {encoded(t, "gzip", field1(limit+1)).Bytes(), true},
		"a bomb":                    {encoded(t, "gzip", field1(500_000)).Bytes(), true},
		"grown by a rule":           {testbed.Frame(text("grow")), true},
	} {
		t.Run(name, func(t *testing.T) {
			p := rawPair{client: testbed.DialH2(t, proxy.Addr), server: server}
			cs, ss, _ := p.open(t, testbed.RequestFields("grpc-encoding", "gzip"))
			cs.SendEnd(c.body)
			if c.refused {
				wantLocal(t, cs.Outcome(), 8, "message_too_large")
				ss.AwaitReset()
				return
			}
			require.Equal(t, c.body, ss.Outcome().Body)
		})
	}
}

// field1 is a message of size bytes, of 130 and more, that compresses well.
func field1(size int) []byte {
	b := bytes.Repeat([]byte("x"), size)
	testbed.MakeField(b)
	return b
}

// Peers that announce much and send little cost about what they sent.
func TestStruct_AnnouncedSizeAllocatesNothing(t *testing.T) {
	const (
		calls = 20
		sent  = 400 << 10 // more than a window: when it is sent, framegate has begun with the message
	)
	server := testbed.NewH2Server(t)
	p := rawPair{client: testbed.DialH2(t, structured(t, server.Addr)), server: server}
	begin := append(testbed.Prefix(0, largeMessage), pattern(sent, 1)...)
	base := heapBytes()
	for range calls {
		cs, ss, _ := p.open(t, testbed.RequestFields())
		ss.SendHeaders(testbed.ResponseFields())
		cs.ReadHeaders()
		cs.Send(begin)
		ss.Send(begin)
	}
	if grown := int64(heapBytes()) - int64(base); grown > 2*heapLimit {
		t.Errorf("got %d MiB more heap for %d calls of %d KiB each way, want at most %d MiB", grown>>20, calls, sent>>10, 2*heapLimit>>20)
	}
}

// An endpoint that cannot be asked for its schema, or that has none.
func TestStruct_EndpointWithoutReflection(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		backend func(t testing.TB) string
		code    int
		reason  string
	}{
		"nothing listens": {refusing.Address, 14, "decode_failed"},
		"no reflection":   {func(t testing.TB) string { return testbed.NewEcho(t, &testbed.Echo{}) }, 14, "decode_failed"},
		"no such service": {func(t testing.TB) string { return testbed.NewInterop(t) }, 12, "decode_failed"},
	} {
		t.Run(name, func(t *testing.T) {
			p := testbed.DialH2(t, reflected(t, c.backend(t)))
			for range 2 { // asked and remembered
				cs := p.Open(t, testbed.RequestFields())
				_ = cs.TrySendEnd(testbed.Frame(text("a")))
				wantLocal(t, cs.Outcome(), c.code, c.reason)
			}
		})
	}
}
