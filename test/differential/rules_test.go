package differential

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
)

// rule says what a plane changes of what the two ends see. Rules are the exact differences between a call over framegate and one
// without it: a difference without a rule fails the test, as does a rule that no script needs.
type rule struct {
	entry  string   // in the list of handler/README.md
	planes []string // empty for all
	apply  func(t transcript, sc *script) transcript
}

func (r *rule) isOf(plane string) bool { return len(r.planes) == 0 || slices.Contains(r.planes, plane) }

// without returns the lines that match does not match.
func (t transcript) without(match func(l line) bool) transcript {
	return slices.DeleteFunc(slices.Clone(t), match)
}

// has reports whether match matches a line.
func (t transcript) has(match func(l line) bool) bool { return slices.ContainsFunc(t, match) }

// each returns the lines as f has changed them.
func (t transcript) each(f func(l *line)) transcript {
	out := slices.Clone(t)
	for i := range out {
		f(&out[i])
	}
	return out
}

// get returns the value of a field, and false if the block does not have it.
func (t transcript) get(in block, name string) (string, bool) {
	for _, l := range t {
		if l.in == in && l.name == name {
			return l.value, true
		}
	}
	return "", false
}

// with returns the lines and one more field, if there is such a block.
func (t transcript) with(in block, name, value string) transcript {
	at := -1
	for i, l := range t {
		if l.in == in && l.name != "" && (at < 0 || l.name <= name) {
			at = i
			if l.name <= name {
				at++
			}
		}
	}
	if at < 0 {
		return t
	}
	return slices.Insert(slices.Clone(t), at, line{in: in, name: name, value: value})
}

// end returns the transcript of a call that framegate ends with a status of its own: of the answer only those lines are left
// that keep keeps, and framegate resets the request with a code; not with noReset, because the server has ended the call.
func (t transcript) end(keep func(l line) bool, text string, code http2.ErrCode) transcript {
	var out transcript
	for _, l := range t {
		if l.ofRequest() {
			out = append(out, l)
		}
	}
	if code != noReset {
		out.add(inRequest, "%s %s", reset, code)
	}
	for _, l := range t {
		if !l.ofRequest() && keep(l) {
			out = append(out, l)
		}
	}
	out.add(inAnswer, "%s", text)
	return out
}

const noReset = http2.ErrCode(0xfffffffd)

// What end keeps of an answer.
func nothing(line) bool { return false }
func begun(l line) bool {
	return l.in == inAnswer && (l.name != "" || isMessage(l)) || l.in == inInformational
}
func isMessage(l line) bool {
	return l.name == "" && !isBad(l) && strings.Contains(l.text, "message")
}
func isBad(l line) bool   { return l.name == "" && strings.HasPrefix(l.text, badMessage) }
func isPart(l line) bool  { return l.name == "" && strings.HasPrefix(l.text, partOfMessage) }
func isEnd(l line) bool   { return l.name == "" && l.text == endOfStream }
func isReset(l line) bool { return l.name == "" && strings.HasPrefix(l.text, reset) }

func isMissing(l line) bool { return l.name == "" && strings.HasPrefix(l.text, missing) }

// isField returns a match for fields of the name in the blocks.
func isField(name string, blocks ...block) func(l line) bool {
	return func(l line) bool { return l.name == name && slices.Contains(blocks, l.in) }
}

var inAnswers = []block{inAnswer, inTrailersOnly, inTrailers}

// commonRules are the rules of all planes.
var commonRules = []rule{
	{entry: "answers of 1xx", apply: func(t transcript, _ *script) transcript {
		return t.without(func(l line) bool { return l.in == inInformational })
	}},
	{entry: "`via` of a request", apply: func(t transcript, sc *script) transcript {
		if !sc.raw {
			return t
		}
		return t.with(inRequest, "via", "2 framegate")
	}},
	{entry: "`host` of a request", apply: func(t transcript, _ *script) transcript {
		host, ok := t.get(inRequest, "host")
		if _, has := t.get(inRequest, ":authority"); ok && !has {
			t = t.with(inRequest, ":authority", host)
		}
		return t.without(isField("host", inRequest))
	}},
	{entry: "a request without authority", apply: func(t transcript, _ *script) transcript {
		if _, has := t.get(inRequest, ":authority"); has {
			return t
		}
		return t.with(inRequest, ":authority", serverAddress)
	}},
	{entry: "`content-length` of an answer", apply: func(t transcript, _ *script) transcript {
		return t.without(isField("content-length", inAnswers...))
	}},
	{entry: "`grpc-status` that is no int32, or is missing", apply: func(t transcript, _ *script) transcript {
		for _, in := range []block{inTrailers, inTrailersOnly} {
			if _, ok := t.get(in, "grpc-status"); !ok && t.isGRPC() {
				t = t.with(in, "grpc-status", "2")
			}
		}
		return t.each(func(l *line) {
			if n, err := strconv.ParseInt(l.value, 10, 32); l.name == "grpc-status" && (l.in == inTrailers || l.in == inTrailersOnly) && (err != nil || n < 0) {
				l.value = "2"
			}
		})
	}},
	{entry: "RST_STREAM of an endpoint", apply: func(t transcript, _ *script) transcript {
		return t.each(func(l *line) {
			if l.in == inAnswer && isReset(*l) {
				l.text = statusText(codeOfReset(codeNamed(l.text)), "upstream_reset")
			}
		})
	}},
	{entry: "an answer that is not gRPC", apply: func(t transcript, _ *script) transcript {
		switch status, page := t.get(inAnswer, ":status"); {
		case t.isGRPC():
			return t
		case page:
			return t.end(nothing, statusText(codeOfHTTP(status), "bad_response_framing"), http2.ErrCodeCancel)
		default:
			status, _ = t.get(inTrailersOnly, ":status")
			return t.end(nothing, statusText(codeOfHTTP(status), "bad_response_framing"), noReset)
		}
	}},
	{entry: "what HTTP/2 does not allow", planes: []string{"relay", "handled"}, apply: func(t transcript, sc *script) transcript {
		switch text := statusText(13, "bad_response_framing"); sc.malformed {
		case "request":
			return transcript{{in: inRequest, text: "none"}, {in: inAnswer, text: statusText(13, "bad_request")}}
		case "headers":
			return t.end(nothing, text, http2.ErrCodeProtocol)
		case "body":
			return t.end(func(l line) bool { return l.in == inAnswer && l.name != "" }, text, http2.ErrCodeProtocol)
		case "trailers":
			return t.end(begun, text, noReset)
		}
		return t
	}},
	{entry: "an answer without trailers", apply: func(t transcript, _ *script) transcript {
		if !t.has(func(l line) bool { return l.in == inAnswer && isEnd(l) }) {
			return t
		}
		return t.end(begun, statusText(13, "bad_response_framing"), noReset)
	}},
	{entry: "an answer that is cut within a message, but OK", apply: func(t transcript, _ *script) transcript {
		if code, _ := t.get(inTrailers, "grpc-status"); code != "0" || !t.has(func(l line) bool { return l.in == inAnswer && isPart(l) }) {
			return t
		}
		return t.end(begun, statusText(13, "bad_response_framing"), noReset)
	}},
	{entry: "a request that is cut within a message", apply: func(t transcript, _ *script) transcript {
		ofRequest := func(match func(line) bool) bool {
			return t.has(func(l line) bool { return l.in == inRequest && match(l) })
		}
		if !ofRequest(isPart) || !ofRequest(isEnd) {
			return t
		}
		return t.without(func(l line) bool { return l.in == inRequestEnd || l.in == inRequest && isEnd(l) }).
			end(nothing, statusText(13, "bad_request_framing"), http2.ErrCodeCancel)
	}},
	{entry: "a message with a flag other than 0 and 1", apply: func(t transcript, _ *script) transcript {
		for _, in := range []block{inRequest, inAnswer} {
			if !t.has(func(l line) bool { return l.in == in && isBad(l) }) {
				continue
			}
			t = t.without(isBad)
			if in == inRequest {
				return t.end(nothing, statusText(13, "bad_request_framing"), http2.ErrCodeCancel)
			}
			return t.end(begun, statusText(13, "bad_response_framing"), http2.ErrCodeCancel)
		}
		return t
	}},
}

// isGRPC reports whether the answer is one of gRPC, or there is none.
func (t transcript) isGRPC() bool {
	for _, in := range []block{inAnswer, inTrailersOnly} {
		if _, ok := t.get(in, ":status"); !ok {
			continue
		}
		return t.has(func(l line) bool { return isField("content-type", in)(l) && isGRPC(l.value) })
	}
	return true
}

// codeOfHTTP is the code that gRPC gives to an HTTP status (grpc, doc/http-grpc-status-mapping.md).
func codeOfHTTP(status string) int {
	switch status {
	case "400":
		return 13
	case "401":
		return 16
	case "403":
		return 7
	case "404":
		return 12
	case "429", "502", "503", "504":
		return 14
	}
	return 2
}

// codeNamed returns the code of a line of a reset.
func codeNamed(text string) http2.ErrCode {
	for _, code := range resetCodes {
		if text == reset+" "+code.String() {
			return code
		}
	}
	return noReset
}

// rules are all rules, in the order in which they are applied.
var rules = slices.Concat([]rule{clientReset}, kitexEarlyRules, commonRules, metadataRules, kitexRules)

// expected returns what both ends see over a plane, by what they see without a framegate, and the rules that have changed it.
func expected(direct transcript, sc *script, plane string) (t transcript, used []*rule) {
	t = direct
	for i := range rules {
		r := &rules[i]
		if !r.isOf(plane) {
			continue
		}
		if changed := r.apply(t, sc); !slices.Equal(changed, t) {
			t, used = changed, append(used, r)
		}
	}
	return t, used
}

// clientReset is applied before the rules that add resets of framegate's own.
var clientReset = rule{entry: "RST_STREAM of a client", planes: metadataPlanes, apply: func(t transcript, _ *script) transcript {
	return t.each(func(l *line) {
		if l.ofRequest() && isReset(*l) {
			l.text = reset + " " + http2.ErrCodeCancel.String()
		}
	})
}}
