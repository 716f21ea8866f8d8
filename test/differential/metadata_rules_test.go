package differential

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/framegate/framegate/test/testbed"
)

// metadataPlanes are those that have the fields of a call as metadata, and its DATA as messages.
var metadataPlanes = []string{"handled", "kitex"}

// metadataRules are the rules of metadataPlanes.
var metadataRules = []rule{
	{entry: "the beginning of a message", planes: metadataPlanes, apply: func(t transcript, _ *script) transcript {
		return t.without(isPart)
	}},
	{entry: "END_STREAM of a request's headers", planes: metadataPlanes, apply: func(t transcript, _ *script) transcript {
		return t.without(func(l line) bool { return l.in == inRequest && l.text == headersOnly })
	}},
	{entry: "trailers of a request", planes: metadataPlanes, apply: func(t transcript, _ *script) transcript {
		return t.without(func(l line) bool { return l.in == inRequestEnd })
	}},
	{entry: "`:scheme`", planes: metadataPlanes, apply: func(t transcript, _ *script) transcript {
		return t.set(isField(":scheme", inRequest), "http")
	}},
	{entry: "an empty `:authority`", planes: metadataPlanes, apply: func(t transcript, _ *script) transcript {
		return t.set(func(l line) bool { return l.name == ":authority" && l.value == "" }, serverAddress)
	}},
	{entry: "a request without `te`", planes: metadataPlanes, apply: func(t transcript, _ *script) transcript {
		if _, ok := t.get(inRequest, "te"); ok {
			return t
		}
		return t.with(inRequest, "te", "trailers")
	}},
	{entry: "several lines of `content-type`, `user-agent`, `grpc-encoding`, `grpc-accept-encoding`, `grpc-status` or `grpc-message`", planes: metadataPlanes, apply: func(t transcript, _ *script) transcript {
		t = t.last("content-type", inRequest).last("user-agent", inRequest).last("grpc-accept-encoding", inRequest).last("grpc-encoding", inRequest, inAnswer)
		return t.last("grpc-status", inTrailers, inTrailersOnly).last("grpc-message", inTrailers, inTrailersOnly)
	}},
	{entry: "`grpc-timeout` of more than ten years", planes: []string{"handled"}, apply: longTimeout(10*365*24*3600, "5256000M")},
	{entry: "`grpc-timeout` of more than 292 years", planes: []string{"kitex"}, apply: longTimeout((1<<63-1)/1e9, "2562048H")},
	{entry: "fields that are never indexed (RFC 7541 §6.2.3)", planes: metadataPlanes, apply: func(t transcript, _ *script) transcript {
		return t.each(func(l *line) { l.never = false })
	}},
	{entry: "padding of `-bin` values", planes: metadataPlanes, apply: func(t transcript, _ *script) transcript {
		return t.each(func(l *line) {
			if isBinary(*l) && !isJoined(*l) {
				l.value = strings.TrimRight(l.value, "=")
			}
		})
	}},
	{entry: "several `-bin` values in one line, joined by commas", planes: []string{"handled"}, apply: func(t transcript, _ *script) transcript {
		var out transcript
		for _, l := range t {
			if !isJoined(l) {
				out = append(out, l)
				continue
			}
			for v := range strings.SplitSeq(l.value, ",") {
				l.value = strings.TrimRight(strings.Trim(v, " \t"), "=")
				out = append(out, l)
			}
		}
		return out
	}},
	{entry: "several `-bin` values in one line, joined by commas", planes: []string{"kitex"}, apply: func(t transcript, _ *script) transcript {
		return t.without(isJoined)
	}},
	{entry: "a `-bin` value of an answer that is no base64", planes: metadataPlanes, apply: func(t transcript, _ *script) transcript {
		return t.without(func(l line) bool {
			_, err := base64.RawStdEncoding.DecodeString(l.value)
			return isBinary(l) && err != nil
		})
	}},
	{entry: "`host` of an answer", planes: metadataPlanes, apply: func(t transcript, _ *script) transcript {
		return t.without(isField("host", inAnswers...))
	}},
	{entry: "`:status` of an answer of gRPC", planes: metadataPlanes, apply: func(t transcript, _ *script) transcript {
		return t.set(isField(":status", inAnswers...), "200")
	}},
	{entry: "spelling of `grpc-status` and `grpc-message`", planes: metadataPlanes, apply: func(t transcript, _ *script) transcript {
		return t.each(func(l *line) {
			switch n, err := strconv.ParseInt(l.value, 10, 32); {
			case isField("grpc-message", inTrailers, inTrailersOnly)(*l):
				l.value = escape(unescape(l.value))
			case isField("grpc-status", inTrailers, inTrailersOnly)(*l) && err == nil:
				l.value = fmt.Sprint(n)
			}
		})
	}},
	{entry: "an empty `grpc-message`", planes: []string{"handled"}, apply: func(t transcript, _ *script) transcript {
		return t.without(func(l line) bool { return isField("grpc-message", inTrailers, inTrailersOnly)(l) && l.value == "" })
	}},
}

func isBinary(l line) bool { return strings.HasSuffix(l.name, "-bin") }
func isJoined(l line) bool { return isBinary(l) && strings.Contains(l.value, ",") }

// set returns the lines with the value of those fields that match matches changed.
func (t transcript) set(match func(l line) bool, value string) transcript {
	return t.each(func(l *line) {
		if match(*l) {
			l.value = value
		}
	})
}

// last leaves only the last of several lines of a field in each of the blocks.
func (t transcript) last(name string, blocks ...block) transcript {
	match := isField(name, blocks...)
	left := map[block]int{}
	for _, l := range t {
		if match(l) {
			left[l.in]++
		}
	}
	return t.without(func(l line) bool {
		if !match(l) {
			return false
		}
		left[l.in]--
		return left[l.in] > 0
	})
}

func longTimeout(seconds float64, value string) func(t transcript, _ *script) transcript {
	return func(t transcript, _ *script) transcript {
		return t.set(func(l line) bool { return isField("grpc-timeout", inRequest)(l) && secondsOf(l.value) > seconds }, value)
	}
}

// unescape decodes a grpc-message.
func unescape(v string) string {
	return testbed.Outcome{Trailers: testbed.NewFields("grpc-message", v)}.Message()
}

// escape encodes a grpc-message (gRPC over HTTP/2, "Responses").
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
