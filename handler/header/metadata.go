package header

import (
	"context"
	"strings"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/grpc"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"

	"github.com/framegate/framegate/handler/downstream"
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

// DropHopByHop removes from md, which it owns, what is not forwarded, and what a connection header names.
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

const ContentLength = "content-length"

// DropBodyFields removes from md, which it owns, what is not true of a body whose messages struct mode may change.
func DropBodyFields(md metadata.MD) {
	for _, name := range bodyFields {
		delete(md, name)
	}
}

// Authority returns the authority of a request (RFC 9113 §8.3.1), or "" if it has none.
func Authority(md metadata.MD) string {
	if v := md[":authority"]; len(v) > 0 {
		return v[0]
	}
	if v := md["host"]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// ForUpstream returns the context and the header with which a call goes upstream: the client's deadline, content
// subtype and compression, and its metadata md. md is the call's own map; it is taken over and
// changed: nobody else uses it once the route is known.
//
// Two headers need care. Kitex writes grpc-accept-encoding itself when CallHdr.SendCompress is set, with a value that is
// not the client's, and drops grpc-encoding from metadata; but it looks for reserved names before it turns names to
// lower case, so "Grpc-Encoding" passes and arrives as it should.
func ForUpstream(ctx context.Context, d downstream.Stream, md metadata.MD, authority string) (context.Context, *grpc.CallHdr) {
	hdr := &grpc.CallHdr{Host: authority, Method: d.Stream.Method(), ContentSubtype: d.Stream.ContentSubtype()}
	DropHopByHop(md)
	if accept := d.Stream.SendCompress(); accept != "" {
		md["grpc-accept-encoding"] = []string{accept}
	}
	ctx = metadata.NewOutgoingContext(ctx, md)
	if encoding := d.Stream.RecvCompress(); encoding != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "Grpc-Encoding", encoding)
	}
	return ctx, hdr
}
