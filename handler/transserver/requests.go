package transserver

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cloudwego/kitex/pkg/utils"
	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/framegate/framegate/pool/h2conn"
)

// Fault says why a request is refused.
type Fault string

// The faults.
const (
	NotPOST         Fault = "method"       // the method is not POST
	NotGRPC         Fault = "content-type" // the content-type is not gRPC's, or missing
	HeadersTooLarge Fault = "too large"    // the fields are over the server's MAX_HEADER_LIST_SIZE
	Malformed       Fault = "malformed"    // a field is malformed for HTTP/2 or gRPC
)

// requests judges the header blocks of a client. It answers requests that Kitex's transport would reset without an answer,
// or for which it would end the connection. The transport does not see them.
type requests struct {
	conn    *conn
	highest uint32 // the highest stream that was opened
}

// Judge implements h2conn.Judge.
func (r *requests) Judge(b *h2conn.Block) h2conn.Verdict {
	switch {
	case b.Stream%2 == 0: // a client must not use even numbers: the transport ends the connection (RFC 9113 §5.1.1)
		if b.Again {
			return h2conn.Pass
		}
		return h2conn.Rewrite
	case b.Stream <= r.highest:
		if b.EndStream { // trailers, which a gRPC request does not have
			return h2conn.End
		}
		r.conn.send(h2conn.AppendReset(nil, b.Stream, http2.ErrCodeProtocol))
		return h2conn.Reset
	}
	r.highest = b.Stream
	if b.Again {
		return h2conn.Pass
	}
	fault, detail := faultOf(b)
	if fault == "" {
		return h2conn.Pass
	}
	r.conn.refuse(b, fault, detail)
	return h2conn.Drop
}

// faultOf returns what is wrong with a request, and the Detail of its Refusal. The fault is empty for a request of gRPC.
func faultOf(b *h2conn.Block) (fault Fault, detail string) {
	if b.TooLong {
		return HeadersTooLarge, ""
	}
	var (
		method, contentType string
		isGRPC, regular     bool
		malformed           string
		seen                [len(pseudoFields)]bool
	)
	for i := range b.Fields {
		f := &b.Fields[i]
		wrong := ""
		if !httpguts.ValidHeaderFieldValue(f.Value) {
			wrong = fmt.Sprintf("the value of %s is %s, want no control characters", quoted(f.Name), quoted(f.Value))
		} else if strings.HasPrefix(f.Name, ":") {
			n := pseudoField(f.Name)
			switch {
			case n < 0:
				wrong = fmt.Sprintf("%s, want the pseudo-header fields of a request", quoted(f.Name))
			case seen[n] || regular:
				wrong = f.Name + ", want it once and before other fields"
			default:
				seen[n] = true
			}
			if f.Name == ":method" {
				method = f.Value
			}
		} else {
			regular = true
			switch {
			case !validName(f.Name):
				wrong = fmt.Sprintf("a field %s, want a name in lower case", quoted(f.Name))
			case f.Name == "content-type":
				contentType = f.Value
				isGRPC = isGRPC || isGRPCType(f.Value)
			default:
				wrong = wrongField(f)
			}
		}
		if malformed == "" {
			malformed = wrong
		}
	}
	switch {
	case method != "POST" && method != "":
		return NotPOST, fmt.Sprintf(":method %s, want POST", quoted(method))
	case !isGRPC && contentType == "":
		return NotGRPC, "no content-type, want application/grpc"
	case !isGRPC:
		return NotGRPC, fmt.Sprintf("content-type %s, want application/grpc", quoted(contentType))
	case malformed != "":
		return Malformed, malformed
	case method == "":
		return Malformed, "no :method, want POST"
	}
	return "", ""
}

// pseudoFields are the pseudo-header fields of a request (RFC 9113 §8.3.1).
var pseudoFields = [...]string{":method", ":path", ":scheme", ":authority"}

// pseudoField returns the index of a name in pseudoFields, or -1.
func pseudoField(name string) int {
	for i, p := range pseudoFields {
		if p == name {
			return i
		}
	}
	return -1
}

// validName reports whether name is a valid name of a field (RFC 9113 §8.2.1).
func validName(name string) bool {
	for i := range len(name) {
		if c := name[i]; 'A' <= c && c <= 'Z' || !httpguts.IsTokenRune(rune(c)) {
			return false
		}
	}
	return name != ""
}

// isGRPCType reports whether v is a content-type of gRPC (gRPC over HTTP/2, "Requests").
func isGRPCType(v string) bool {
	rest, ok := strings.CutPrefix(v, "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// wrongField returns what is wrong with a field, if it is one that Kitex's transport parses; empty if nothing is.
func wrongField(f *hpack.HeaderField) string {
	var want string
	switch f.Name {
	case "grpc-timeout":
		if isTimeout(f.Value) {
			return ""
		}
		want = "at most 8 digits and one of H, M, S, m, u, n"
	case "grpc-status", "biz-status":
		if _, err := strconv.Atoi(f.Value); err == nil {
			return ""
		}
		want = "a number"
	case "biz-extra":
		if _, err := utils.JSONStr2Map(f.Value); err == nil {
			return ""
		}
		want = "a JSON object of strings"
	case "grpc-status-details-bin":
		if p, err := h2conn.DecodeBinary(f.Value); err == nil && proto.Unmarshal(p, &spb.Status{}) == nil {
			return ""
		}
		want = "a google.rpc.Status in base64"
	case "grpc-tags-bin", "grpc-trace-bin":
		if _, err := h2conn.DecodeBinary(f.Value); err == nil {
			return ""
		}
		want = "base64"
	default:
		return ""
	}
	return fmt.Sprintf("%s %s, want %s", f.Name, quoted(f.Value), want)
}

// isTimeout reports whether s is a grpc-timeout (gRPC over HTTP/2, "Requests").
func isTimeout(s string) bool {
	if len(s) < 2 || len(s) > 9 {
		return false
	}
	for i := range len(s) - 1 {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	switch s[len(s)-1] {
	case 'H', 'M', 'S', 'm', 'u', 'n':
		return true
	}
	return false
}

// quoted returns a client's text for an error message: cut to a bounded length, and quoted in ASCII.
func quoted(s string) string {
	const maxBytes = 64
	if len(s) > maxBytes {
		return strconv.QuoteToASCII(s[:maxBytes]) + "..."
	}
	return strconv.QuoteToASCII(s)
}
