package header

import (
	"strings"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/framegate/framegate/handler/stream"
	"github.com/framegate/framegate/pool/transport"
)

// hopByHop reports whether a header concerns one connection only (RFC 9110 §7.6.1, RFC 9113 §8.2.2) or repeats what
// :authority says (host, RFC 9113 §8.3.1) and so is not forwarded.
func hopByHop(name string) bool {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings", "host":
		return true
	}
	return false
}

// DropHopByHop deletes from md the fields that are not forwarded: those that hopByHop names, and those that a connection
// header names.
func DropHopByHop(md metadata.MD) {
	for _, v := range md["connection"] {
		for name := range strings.SplitSeq(v, ",") {
			delete(md, strings.ToLower(strings.TrimSpace(name)))
		}
	}
	for name := range md {
		if hopByHop(name) {
			delete(md, name)
		}
	}
}

// bodyFields describe the body that they come with: its length (RFC 9110 §8.6) and digests of it (RFC 9530, RFC 3230, RFC
// 1864). gRPC needs none of them.
var bodyFields = [...]string{ContentLength, "content-digest", "repr-digest", "digest", "content-md5"}

// ContentLength is the name of the header with the length of a body (RFC 9110 §8.6).
const ContentLength = "content-length"

// DropBodyFields deletes from md the fields that would not be true of a body whose messages struct mode has changed.
func DropBodyFields(md metadata.MD) {
	for _, name := range bodyFields {
		delete(md, name)
	}
}

// Authority returns the :authority of a request, or else its host (RFC 9113 §8.3.1), or "" if it has neither.
func Authority(md metadata.MD) string {
	if v := md[":authority"]; len(v) > 0 {
		return v[0]
	}
	if v := md["host"]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Last returns the last value of a field in md, or "" if there is none.
func Last(md metadata.MD, name string) string {
	if v := md[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

// ForUpstream sets in hdr what a stream to an endpoint begins with, but for the content-type and the user-agent: the client's
// method, encodings and metadata. It takes md over and changes it: the caller must not use it for anything else.
func ForUpstream(hdr *transport.Header, d stream.Downstream, md metadata.MD, authority string) {
	DropHopByHop(md)
	if accept := d.AcceptEncoding(); accept != "" {
		md["grpc-accept-encoding"] = []string{accept}
	}
	hdr.Authority, hdr.Method, hdr.Encoding, hdr.Metadata = authority, d.Method(), d.Encoding(), md
}
