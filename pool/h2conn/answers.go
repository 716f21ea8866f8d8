package h2conn

import (
	"math"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
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

// answers judges the header blocks of a peer, and keeps from the transport what that breaks its connection for, or does
// not know:
//
//   - a block that is too long ends its stream with HeadersTooLarge;
//   - a grpc-status that is no int32 becomes UNKNOWN. With one that is a larger number, or such a biz-status, the
//     transport's reader would panic;
//   - answers of 1xx are passed over (RFC 9110 §15.2).
type answers struct{ c *Conn }

// Judge implements Judge.
func (a answers) Judge(b *Block) Verdict {
	c := a.c
	if b.TooLong {
		c.resets.add(b.Stream, HeadersTooLarge)
		b.Fields, b.EndStream = append(b.Fields[:0], tooLarge...), true
		return Rewrite
	}
	bad := false
	for i := range b.Fields {
		switch f := &b.Fields[i]; f.Name {
		case ":status":
			if len(f.Value) == 3 && f.Value[0] == '1' && !b.EndStream {
				c.onCall() // the peer was heard, all the same
				return Drop
			}
		case "grpc-status":
			bad = bad || !isStatus(f.Value)
		case "biz-status":
			if _, err := strconv.ParseInt(f.Value, 10, 32); err != nil {
				bad = true
			}
		}
	}
	if !bad {
		return Pass
	}
	kept := b.Fields[:0]
	for _, f := range b.Fields {
		switch f.Name {
		case "grpc-status", "biz-status", "biz-extra", "grpc-status-details-bin": // they would say something else
		default:
			kept = append(kept, f)
		}
	}
	b.Fields = append(kept, hpack.HeaderField{Name: "grpc-status", Value: unknown})
	return Rewrite
}

// isStatus reports whether s is a grpc-status: digits (gRPC over HTTP/2, "Responses") of an int32.
func isStatus(s string) bool {
	if len(s) == 1 { // those that gRPC defines are short
		return s[0]-'0' <= 9
	}
	n, err := strconv.ParseUint(s, 10, 31)
	return err == nil && n <= math.MaxInt32
}
