package h2conn

import (
	"encoding/base64"
	"math"
	"slices"
	"strconv"

	"github.com/cloudwego/kitex/pkg/utils"
	"golang.org/x/net/http2/hpack"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/framegate/framegate/pool/transport"
)

// HeadersTooLargeMessage is the message of the status that Kitex's transport makes for a stream whose ResetCode is
// transport.HeadersTooLarge, from tooLarge.
const HeadersTooLargeMessage = `transport: malformed grpc-status: strconv.Atoi: parsing "headers too large": invalid syntax`

// tooLarge are the fields that replace those of a block that is too long. For its malformed grpc-status Kitex ends the
// stream, and resets it at the peer, whether the block is the first or the last of the answer.
var tooLarge = []hpack.HeaderField{
	{Name: ":status", Value: "200"}, {Name: "content-type", Value: "application/grpc"}, {Name: "grpc-status", Value: "headers too large"},
}

// unknown is the grpc-status that replaces a malformed one: UNKNOWN (gRPC, statuscodes.md).
const unknown = "2"

// answers judges the header blocks of a peer. It changes those for which the transport would end the connection, or would
// give the call another status than that of grpc-status:
//
//   - a block that is too long ends its stream with transport.HeadersTooLarge;
//   - a grpc-status or biz-status that is no int32 becomes the grpc-status UNKNOWN, because the transport's reader would
//     panic on a larger number;
//   - an interim answer, 1xx, is dropped (RFC 9110 §15.2), because the transport does not know it;
//   - a grpc-status-details-bin with another code than grpc-status is removed (gRPC over HTTP/2, "Responses": it must not
//     contradict it), and so are fields of gRPC and Kitex that cannot be decoded.
type answers struct{ c *Conn }

// Judge implements Judge.
func (a answers) Judge(b *Block) Verdict {
	if b.Again {
		return Pass
	}
	c := a.c
	if b.TooLong {
		c.resets.add(b.Stream, transport.HeadersTooLarge)
		b.Fields, b.EndStream = append(b.Fields[:0], tooLarge...), true
		return Rewrite
	}
	var s answerStatus
	doubtful := false
	for i := range b.Fields {
		switch f := &b.Fields[i]; f.Name {
		case ":status":
			if len(f.Value) == 3 && f.Value[0] == '1' && !b.EndStream {
				c.onCall() // the observer does not see the block, but the peer is not silent
				return Drop
			}
		case "grpc-status":
			s.code, s.bad = f.Value, s.bad || !isStatus(f.Value)
		case "biz-status":
			_, err := strconv.ParseInt(f.Value, 10, 32)
			s.bad = s.bad || err != nil
		case "biz-extra", "grpc-status-details-bin", "grpc-tags-bin", "grpc-trace-bin", "grpc-timeout":
			doubtful = true
		}
	}
	if !s.bad && (!doubtful || !slices.ContainsFunc(b.Fields, s.excludes)) {
		return Pass
	}
	b.Fields = slices.DeleteFunc(b.Fields, s.excludes)
	if s.bad {
		b.Fields = append(b.Fields, hpack.HeaderField{Name: "grpc-status", Value: unknown})
	}
	return Rewrite
}

// answerStatus is the status in the header block of an answer.
type answerStatus struct {
	code string // grpc-status; empty if there is none
	bad  bool   // grpc-status or biz-status is no int32
}

// excludes reports whether a field must be removed, because it contradicts the status or cannot be decoded.
func (s answerStatus) excludes(f hpack.HeaderField) bool {
	switch f.Name {
	case "grpc-status", "biz-status":
		return s.bad
	case "biz-extra":
		_, err := utils.JSONStr2Map(f.Value)
		return s.bad || err != nil
	case "grpc-status-details-bin":
		return s.bad || !s.hasCode(f.Value)
	case "grpc-tags-bin", "grpc-trace-bin":
		_, err := DecodeBinary(f.Value)
		return err != nil
	case "grpc-timeout":
		return true // a field of requests only
	}
	return false
}

// hasCode reports whether details, a grpc-status-details-bin, is a google.rpc.Status with the code of s.
func (s answerStatus) hasCode(details string) bool {
	var st spb.Status
	b, err := DecodeBinary(details)
	if err != nil || proto.Unmarshal(b, &st) != nil {
		return false
	}
	code, err := strconv.ParseInt(s.code, 10, 32)
	return err == nil && int64(st.Code) == code
}

// DecodeBinary decodes the value of a field whose name ends in -bin, which is base64 with padding or without (gRPC over
// HTTP/2, "Binary-Header"). It accepts what Kitex's transport accepts.
func DecodeBinary(v string) ([]byte, error) {
	if len(v)%4 == 0 {
		return base64.StdEncoding.DecodeString(v)
	}
	return base64.RawStdEncoding.DecodeString(v)
}

// isStatus reports whether s is a grpc-status: the digits (gRPC over HTTP/2, "Responses") of an int32 that is not negative.
func isStatus(s string) bool {
	if len(s) == 1 { // fast path
		return s[0]-'0' <= 9
	}
	n, err := strconv.ParseUint(s, 10, 31)
	return err == nil && n <= math.MaxInt32
}
