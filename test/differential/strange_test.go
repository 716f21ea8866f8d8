package differential

import (
	"slices"

	"github.com/framegate/framegate/test/testbed"
)

// strangeScripts are answers that are no gRPC, or no HTTP/2.
func strangeScripts() []script {
	return slices.Concat(pageScripts(), malformedScripts(), answerScripts())
}

// pageScripts are answers of HTTP.
func pageScripts() []script {
	var all []script
	call := testbed.RequestFields()
	page := func(name string, fields testbed.Fields) {
		all = append(all,
			script{name: "no gRPC/page/" + name, request: call, acts: []act{ask, begin(fields), replyEnd([]byte("<html>"))}},
			script{name: "no gRPC/headers only/" + name, request: call, acts: []act{ask, finish(fields)}},
		)
	}
	for _, status := range []string{"200", "204", "302", "400", "401", "403", "404", "418", "429", "500", "502", "503", "504", "999"} {
		page("HTTP "+status, testbed.NewFields(":status", status, "content-type", "text/html", "x-other", "1"))
	}
	page("HTTP 200 without content-type", testbed.NewFields(":status", "200"))
	page("HTTP 200 of another content-type", testbed.NewFields(":status", "200", "content-type", "application/grpcx"))
	gRPC := testbed.ResponseFields().Replace(":status", "503")
	return append(all,
		script{name: "gRPC with HTTP 503", request: call, acts: []act{ask, begin(gRPC), respond, finish(testbed.StatusFields(14, "m"))}},
		script{name: "gRPC with HTTP 503, trailers only", request: call, acts: []act{ask, finish(gRPC.With("grpc-status", "14", "grpc-message", "m"))}},
	)
}

// malformedScripts are requests and answers that HTTP/2 does not allow.
func malformedScripts() []script {
	var all []script
	call := testbed.RequestFields()
	for name, fields := range map[string]testbed.Fields{
		"no :status":                 testbed.NewFields("content-type", "application/grpc"),
		"a :status that is none":     testbed.NewFields(":status", "abc", "content-type", "application/grpc"),
		"two of :status":             testbed.NewFields(":status", "200", ":status", "200", "content-type", "application/grpc"),
		":status behind a field":     testbed.NewFields("content-type", "application/grpc", ":status", "200"),
		"a pseudo-header of request": testbed.NewFields(":status", "200", ":path", "/", "content-type", "application/grpc"),
		"a name in upper case":       testbed.ResponseFields("X-Upper", "1"),
		"a value with a NUL":         testbed.ResponseFields("x-evil", "a\x00b"),
		"a value with a line break":  testbed.ResponseFields("x-evil", "a\r\nb"),
	} {
		all = append(all, script{name: "malformed/headers/" + name, request: call, acts: []act{ask, atOnce(begin(fields), respond), succeed}, malformed: "headers"})
	}
	for _, f := range connectionFields {
		all = append(all,
			script{name: "malformed/request/" + f.Name, request: call.With(f.Name, f.Value), acts: []act{ask, accept, respond, succeed}, malformed: "request"},
			script{name: "malformed/headers/" + f.Name, request: call, acts: []act{ask, begin(append(testbed.ResponseFields(), f)), respond, succeed}, malformed: "headers"},
			script{name: "malformed/trailers/" + f.Name, request: call, acts: []act{ask, accept, respond, finish(append(testbed.StatusFields(0, ""), f))}, malformed: "trailers"},
		)
	}
	length := func(n string) testbed.Fields { return testbed.ResponseFields("content-length", n) }
	return append(all,
		script{name: "malformed/101", request: call, acts: []act{ask, inform(testbed.NewFields(":status", "101")), accept, respond, succeed}, malformed: "headers"},
		script{name: "malformed/content-length too long", request: call, acts: []act{ask, begin(length("1000")), respond, succeed}, malformed: "trailers"},
		script{name: "malformed/content-length too short", request: call, acts: []act{ask, begin(length("3")), respond, succeed}, malformed: "body"},
	)
}

// connectionFields are those that HTTP/2 forbids (RFC 9113 §8.2.2).
var connectionFields = testbed.NewFields(
	"connection", "keep-alive", "keep-alive", "timeout=5", "proxy-connection", "keep-alive", "transfer-encoding", "chunked", "upgrade", "h2c", "http2-settings", "AA",
)

// answerScripts are fields of answers that HTTP gives a meaning.
func answerScripts() []script {
	var all []script
	call := testbed.RequestFields()
	add := func(name string, request, headers, trailers testbed.Fields) {
		all = append(all, script{name: "answer/" + name, request: request, acts: []act{ask, begin(headers), respond, finish(trailers)}})
	}
	ok := testbed.StatusFields(0, "")
	add("content-length", call, testbed.ResponseFields("content-length", "13"), ok)
	for _, f := range testbed.NewFields("host", "elsewhere.example.com", "te", "trailers") {
		add("headers/"+f.Name, call, append(testbed.ResponseFields(), f), ok)
		add("trailers/"+f.Name, call, testbed.ResponseFields(), ok.With(f.Name, f.Value))
	}
	for _, v := range []string{"+proto", "+json", "+x", ";proto", "; charset=utf-8", "+proto;a=b"} {
		headers := testbed.ResponseFields().Replace("content-type", "application/grpc"+v)
		add("content-type "+v, call, headers, ok)
		add("content-type of both "+v, call.Replace("content-type", "application/grpc"+v), headers, ok)
		all = append(all, script{name: "answer/content-type of trailers only " + v, request: call, acts: []act{ask, finish(append(headers, testbed.StatusFields(5, "m")...))}})
	}
	return all
}
