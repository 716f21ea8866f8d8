package differential

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/http2/hpack"

	"github.com/framegate/framegate/test/testbed"
)

// fieldCases are metadata that gRPC allows, each of which must be the same, byte for byte, in a request, in headers, in trailers and in
// an answer of trailers only.
var fieldCases = []struct {
	name   string
	fields testbed.Fields
}{
	{"one value", testbed.NewFields("x-one", "value")},
	{"a name more than once", testbed.NewFields("x-many", "b", "x-many", "a", "x-many", "b", "x-many", "")},
	{"names by turns", testbed.NewFields("x-a", "1", "x-b", "1", "x-a", "2", "x-b", "2")},
	{"no value", testbed.NewFields("x-empty", "")},
	{"no values", testbed.NewFields("x-empty", "", "x-empty", "")},
	{"commas", testbed.NewFields("x-list", "a,b, c ,,")},
	{"punctuation", testbed.NewFields("x-punctuation", `a, b;c="d" %20 100% {~} \ <>?/|[]'`+"`")},
	{"spaces within", testbed.NewFields("x-spaces", "a  b\tc")},
	{"UTF-8", testbed.NewFields("x-utf8", "ä☺😈")},
	{"bytes over 0x7f", testbed.NewFields("x-latin1", "\xe4\x80\xff")},
	{"every sign in a name", testbed.NewFields("x!#$%&'*+-.^_`|~09", "value")},
	{"names of one letter", testbed.NewFields("a", "1", "0", "2", "-", "3", "_", "4")},
	{"a long name", testbed.NewFields(strings.Repeat("n", 300), "value")},
	{"a long value", testbed.NewFields("x-long", strings.Repeat("0123456789", 700))},
	{"many fields", manyFields(48, 1000)},
	{"names like gRPC's", testbed.NewFields("grpc-previous-rpc-attempts", "2", "grpc-other", "value", "grpc-", "x")},
	{"names of HTTP", testbed.NewFields("accept", "*/*", "accept-encoding", "gzip", "content-encoding", "br", "date", "today", "forwarded", "for=a", "priority", "u=1", "range", "bytes=0-", "server", "s", "trailer", "x", "x-forwarded-for", "a, b")},
	{"credentials", testbed.NewFields("authorization", "Bearer abc", "cookie", "a=b", "cookie", "c=d", "set-cookie", "e=f", "set-cookie", "g=h")},
	{"fields that are never indexed", testbed.Fields{secret("authorization", "Bearer abc"), secret("x-secret", "1"), secret("x-secret-bin", "AAE")}},
	{"binary, not padded", testbed.NewFields("x-some-bin", "AA", "x-some-bin", "/wD+")},
	{"binary, padded", testbed.NewFields("x-padded-bin", "AA==", "x-padded-bin", "AAE=")},
	{"binary of every byte", testbed.NewFields("x-all-bin", encode(everyByte()))},
	{"binary of nothing", testbed.NewFields("x-none-bin", "")},
	{"binary, joined by commas", testbed.NewFields("x-joined-bin", "AA,/wD+,,AAE=")},
	{"binary, joined by commas and spaces", testbed.NewFields("x-joined-bin", "AA, /wD+")},
	{"binary of odd names", testbed.NewFields("-bin", "AA", "bin", "no base64!", "x-bin-x", "no base64!")},
	{"binary of traces", testbed.NewFields("grpc-trace-bin", encode("\x00trace"), "grpc-tags-bin", encode("\x00tags"))},
	{"grpc-message-type", testbed.NewFields("grpc-message-type", "a.B")},
	{"biz-extra", testbed.NewFields("biz-extra", `{"item":"ä", "b":"c"}`)},
	{"grpc-accept-encoding", testbed.NewFields("grpc-accept-encoding", "gzip,identity, some-other")},
	{"grpc-accept-encoding twice", testbed.NewFields("grpc-accept-encoding", "gzip", "grpc-accept-encoding", "zstd")},
	{"grpc-encoding twice", testbed.NewFields("grpc-encoding", "nobody-registered", "grpc-encoding", "gzip")},
	{"grpc-encoding of identity", testbed.NewFields("grpc-encoding", "identity")},
	{"grpc-encoding of gzip", testbed.NewFields("grpc-encoding", "gzip")},
	{"grpc-encoding that nobody knows", testbed.NewFields("grpc-encoding", "nobody-registered")},
	{"via of others", testbed.NewFields("via", "1.1 edge", "via", "2 other (a, b)")},
	{"user-agent twice", testbed.NewFields("user-agent", "a", "user-agent", "b")},
	{"user-agent", testbed.NewFields("user-agent", "some-client/1.0 (odd; agent) grpc-go/1.0")},
}

// secret is a field that is never indexed (RFC 7541 §6.2.3).
func secret(name, value string) hpack.HeaderField {
	return hpack.HeaderField{Name: name, Value: value, Sensitive: true}
}

func metadataScripts() []script {
	var all []script
	for _, c := range fieldCases {
		with := func(f testbed.Fields) testbed.Fields { return append(f, c.fields...) }
		call := testbed.RequestFields()
		all = append(all,
			script{name: "metadata/request/" + c.name, request: with(call), acts: []act{ask, accept, respond, succeed}},
			script{name: "metadata/headers/" + c.name, request: call, acts: []act{ask, begin(with(testbed.ResponseFields())), respond, succeed}},
			script{name: "metadata/trailers/" + c.name, request: call, acts: []act{ask, accept, respond, finish(with(testbed.StatusFields(0, "")))}},
			script{name: "metadata/trailers of an error/" + c.name, request: call, acts: []act{ask, accept, finish(with(testbed.StatusFields(5, "five")))}},
			script{name: "metadata/trailers only/" + c.name, request: call, acts: []act{ask, finish(append(with(testbed.ResponseFields()), testbed.StatusFields(5, "five")...))}},
		)
	}
	return all
}

// requestScripts are the fields of a request that gRPC or HTTP/2 give a meaning.
func requestScripts() []script {
	var all []script
	add := func(name string, request testbed.Fields) {
		all = append(all, script{name: "request/" + name, request: request, acts: []act{ask, accept, respond, succeed}})
	}
	call := testbed.RequestFields
	for _, v := range []string{"+proto", "+json", "+thrift", "+x", "+", ";", ";proto", "; charset=utf-8", "+proto;a=b", "+proto; a=\"b c\""} {
		add("content-type "+v, call().Replace("content-type", "application/grpc"+v))
	}
	for _, v := range []string{"svc.example.com", "127.0.0.1:1", "[::1]:443", "user@host", "UPPER.example.com:80", "a_b", ""} {
		add("authority "+v, call().Replace(":authority", v))
	}
	for _, v := range []string{"/a/b", "/pkg.sub.Service/Method", "/S/M_1", "/a-b.C$/d-$"} {
		add("path "+v, call().Replace(":path", v))
	}
	add("scheme https", call().Replace(":scheme", "https"))
	add("host beside authority", call("host", "elsewhere.example.com"))
	add("host, no authority", requestWithout(":authority").With("host", "by-host.example.com"))
	add("neither host nor authority", requestWithout(":authority"))
	add("no te", requestWithout("te"))
	add("content-length", call("content-length", "12"))
	add("content-type twice", call("content-type", "application/grpc+proto"))
	add("grpc-status", call("grpc-status", "7", "grpc-message", "a%20b"))
	add("biz-status", call("biz-status", "4"))
	for _, v := range []string{"1H", "99999999H", "1M", "99999999M", "60S", "99999999S", "00000060S", "90000m", "99999999m", "90000000u", "99999999u"} {
		add("grpc-timeout "+v, call("grpc-timeout", v))
	}
	return append(all, script{name: "request/grpc-timeout 99999999n", request: call("grpc-timeout", "99999999n"), headers: true},
		script{name: "request/what is added", request: call(), raw: true, acts: []act{ask, accept, respond, succeed}},
		script{name: "request/what is added to via", request: call("via", "1.1 edge", "via", "2 framegate"), raw: true, acts: []act{ask, accept, respond, succeed}})
}

// asSentByKitex is asSent for Kitex's transport, which says that a client of its own sends each request.
func asSentByKitex(got, sent testbed.Fields) testbed.Fields {
	var out testbed.Fields
	for _, f := range asSent(got, sent) {
		if f.Name != "user-agent" || !strings.HasPrefix(f.Value, "kitex/") {
			out = append(out, f)
		}
	}
	return out
}

func encode(s string) string { return base64.RawStdEncoding.EncodeToString([]byte(s)) }

func everyByte() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b)
}

func manyFields(n, size int) (fields testbed.Fields) {
	for i := range n {
		fields = fields.With(fmt.Sprintf("x-field-%d", i), strings.Repeat("v", size))
	}
	return fields
}

// requestWithout returns the fields of a request without one of them.
func requestWithout(name string) testbed.Fields {
	return slices.DeleteFunc(testbed.RequestFields(), func(f hpack.HeaderField) bool { return f.Name == name })
}
