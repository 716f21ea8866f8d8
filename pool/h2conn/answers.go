package h2conn

import (
	"encoding/base64"
	"math"
	"slices"
	"strconv"

	"github.com/cloudwego/kitex/pkg/utils"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
)

// HeadersTooLarge stands for a stream that ended because a header block of the peer's is too long, see ResetCode. It is
// outside the codes that a peer can send in earnest, as BareEnd is.
const HeadersTooLarge = http2.ErrCode(math.MaxUint32 - 1)

// HeadersTooLargeMessage is the message of the status that Kitex gives to such a stream.
const HeadersTooLargeMessage = `transport: malformed grpc-status: strconv.Atoi: parsing "headers too large": invalid syntax`

// tooLarge takes the place of a block that is too long: Kitex ends the stream for it, at the peer too, whether it began
// the answer or ended it.
var tooLarge = []hpack.HeaderField{
	{Name: ":status", Value: "200"}, {Name: "content-type", Value: "application/grpc"}, {Name: "grpc-status", Value: "headers too large"},
}

// unknown is the status that stands for one that is none (gRPC, statuscodes.md).
const unknown = "2"

// answers judges the header blocks of a peer, and keeps from the transport what that breaks its connection for, what it
// does not know, and fields for which it would give the call another status than that of grpc-status:
//
//   - a block that is too long ends its stream with HeadersTooLarge;
//   - a grpc-status that is no int32 becomes UNKNOWN. With one that is a larger number, or such a biz-status, the
//     transport's reader would panic;
//   - answers of 1xx are passed over (RFC 9110 §15.2);
//   - grpc-status-details-bin with another code than grpc-status, which it must not contradict (gRPC over HTTP/2,
//     "Responses"), and fields of gRPC and Kitex that cannot be decoded are left out.
type answers struct{ c *Conn }

// Judge implements Judge.
func (a answers) Judge(b *Block) Verdict {
	if b.Again {
		return Pass
	}
	c := a.c
	if b.TooLong {
		c.resets.add(b.Stream, HeadersTooLarge)
		b.Fields, b.EndStream = append(b.Fields[:0], tooLarge...), true
		return Rewrite
	}
	var s answerStatus
	doubtful := false
	for i := range b.Fields {
		switch f := &b.Fields[i]; f.Name {
		case ":status":
			if len(f.Value) == 3 && f.Value[0] == '1' && !b.EndStream {
				c.onCall() // the peer was heard, all the same
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

// answerStatus is what the header block of an answer says of the call's status.
type answerStatus struct {
	code string // grpc-status; empty if there is none
	bad  bool   // it, or biz-status, is no int32
}

// excludes reports whether a field cannot stand beside the status, or cannot be decoded.
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
		return true // a field of requests
	}
	return false
}

// hasCode reports whether details are a google.rpc.Status with the code of s.
func (s answerStatus) hasCode(details string) bool {
	var st spb.Status
	b, err := DecodeBinary(details)
	if err != nil || proto.Unmarshal(b, &st) != nil {
		return false
	}
	code, err := strconv.ParseInt(s.code, 10, 32)
	return err == nil && int64(st.Code) == code
}

// DecodeBinary decodes the value of a field whose name ends in -bin, as the transport does (gRPC over HTTP/2,
// "Binary-Header": with padding or without).
func DecodeBinary(v string) ([]byte, error) {
	if len(v)%4 == 0 {
		return base64.StdEncoding.DecodeString(v)
	}
	return base64.RawStdEncoding.DecodeString(v)
}

// isStatus reports whether s is a grpc-status: digits (gRPC over HTTP/2, "Responses") of an int32.
func isStatus(s string) bool {
	if len(s) == 1 { // those that gRPC defines are short
		return s[0]-'0' <= 9
	}
	n, err := strconv.ParseUint(s, 10, 31)
	return err == nil && n <= math.MaxInt32
}
