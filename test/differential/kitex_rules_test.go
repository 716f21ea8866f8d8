package differential

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudwego/kitex"
	"golang.org/x/net/http2"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
)

var onlyKitex = []string{"kitex"}

// kitexEarlyRules are the rules of Kitex's transport for answers that are none. They take the place of common rules.
var kitexEarlyRules = []rule{
	{entry: "an answer that is not gRPC", planes: onlyKitex, apply: func(t transcript, _ *script) transcript {
		if status, page := t.get(inAnswer, ":status"); page && !t.isGRPC() {
			return t.end(nothing, statusText(codeOfHTTP(status), "bad_response_framing"), http2.ErrCodeProtocol)
		}
		return t
	}},
	{entry: "what HTTP/2 does not allow", planes: onlyKitex, apply: func(t transcript, sc *script) transcript {
		if t.has(func(l line) bool { return l.text == "malformed frame" }) {
			return t.end(nothing, statusText(13, "bad_response_framing"), http2.ErrCodeProtocol)
		}
		if _, ok := t.get(inAnswer, ":status"); !ok && sc.malformed == "headers" {
			t = t.with(inAnswer, ":status", "200")
		}
		return t.without(func(l line) bool { return sc.malformed != "" && connectionFields.Has(l.name) })
	}},
	{entry: "`grpc-status` with a plus sign", planes: onlyKitex, apply: func(t transcript, _ *script) transcript {
		return t.set(func(l line) bool { return l.name == "grpc-status" && strings.HasPrefix(l.value, "+") }, "2")
	}},
}

// kitexRules are the rules of Kitex's transport.
var kitexRules = []rule{
	{entry: "`user-agent`", planes: onlyKitex, apply: func(t transcript, sc *script) transcript {
		if t = t.without(func(l line) bool { return l.name == "user-agent" }); sc.raw {
			t = t.with(inRequest, "user-agent", "kitex/"+kitex.Version)
		}
		return t
	}},
	{entry: "content-type", planes: onlyKitex, apply: func(t transcript, _ *script) transcript {
		of, _ := t.get(inRequest, "content-type")
		if of = strings.TrimPrefix(of, "application/grpc"); of != "" {
			of = of[1:]
		}
		if of != "" {
			of = "+" + of
		}
		return t.set(isField("content-type", append(inAnswers, inRequest)...), "application/grpc"+of)
	}},
	{entry: "`grpc-encoding` of an answer", planes: onlyKitex, apply: func(t transcript, _ *script) transcript {
		return t.without(func(l line) bool {
			return isField("grpc-encoding", inTrailers, inTrailersOnly)(l) || isField("grpc-encoding", inAnswer)(l) && !slices.Contains([]string{"identity", "gzip", "deflate", "snappy", "zstd"}, l.value)
		})
	}},
	{entry: "`grpc-accept-encoding`, `grpc-timeout` or `te` of an answer", planes: onlyKitex, apply: func(t transcript, _ *script) transcript {
		return t.without(func(l line) bool {
			return slices.Contains(inAnswers, l.in) && slices.Contains([]string{"grpc-accept-encoding", "grpc-timeout", "te"}, l.name)
		})
	}},
	{entry: "`grpc-message-type`", planes: onlyKitex, apply: func(t transcript, _ *script) transcript {
		return t.without(func(l line) bool { return l.name == "grpc-message-type" })
	}},
	{entry: "`grpc-status`, `grpc-message` or `biz-status` outside trailers", planes: onlyKitex, apply: func(t transcript, _ *script) transcript {
		return t.without(func(l line) bool {
			return (l.in == inRequest || l.in == inAnswer) && slices.Contains([]string{"grpc-status", "grpc-message", "biz-status"}, l.name)
		})
	}},
	{entry: "`biz-extra`", planes: onlyKitex, apply: func(t transcript, _ *script) transcript {
		return t.without(func(l line) bool {
			_, status := t.get(l.in, "biz-status")
			return l.name == "biz-extra" && (!status || json.Unmarshal([]byte(l.value), &map[string]string{}) != nil)
		})
	}},
	{entry: "`biz-status` that is no int32", planes: onlyKitex, apply: func(t transcript, sc *script) transcript {
		for _, in := range []block{inTrailers, inTrailersOnly} {
			if v, ok := t.get(in, "biz-status"); ok && !isInt32(v) {
				t = t.without(isField("biz-status", in)).set(isField("grpc-status", in), "2")
			}
		}
		return t
	}},
	{entry: "`grpc-status-details-bin`", planes: onlyKitex, apply: func(t transcript, _ *script) transcript {
		for _, in := range []block{inTrailers, inTrailersOnly} {
			code, _ := t.get(in, "grpc-status")
			t = t.without(func(l line) bool {
				return isField("grpc-status-details-bin", in)(l) && detailsOf(l.value, code) == nil
			})
			if v, ok := t.get(in, "grpc-status-details-bin"); ok {
				t = t.set(isField("grpc-message", in), escape(detailsOf(v, code).Message))
			}
		}
		return t
	}},
	{entry: "an answer without `grpc-message`", planes: onlyKitex, apply: func(t transcript, _ *script) transcript {
		for _, in := range []block{inTrailers, inTrailersOnly} {
			if _, ok := t.get(in, "grpc-message"); !ok {
				t = t.with(in, "grpc-message", "")
			}
		}
		return t
	}},
	{entry: "`grpc-message` that is no UTF-8", planes: onlyKitex, apply: func(t transcript, _ *script) transcript {
		return t.each(func(l *line) {
			if l.name == "grpc-message" {
				l.value = escape(string([]rune(unescape(l.value)))) // each byte that is none becomes U+FFFD
			}
		})
	}},
}

func isInt32(v string) bool {
	_, err := strconv.ParseInt(v, 10, 32)
	return err == nil
}

// detailsOf returns the status in a grpc-status-details-bin if it has details and that code, else nil.
func detailsOf(v, code string) *spb.Status {
	st := &spb.Status{}
	b, err := base64.RawStdEncoding.DecodeString(v)
	if err != nil || proto.Unmarshal(b, st) != nil || len(st.Details) == 0 || fmt.Sprint(st.Code) != code {
		return nil
	}
	return st
}
