package wire

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// The numbers of the fields of framegate.v1.FanoutReply, Result and Field, see idl/fanout.proto.
const (
	replyResults = 1

	resultNode     = 1
	resultCode     = 2
	resultMessage  = 3
	resultHeaders  = 4
	resultTrailers = 5
	resultPayload  = 6

	fieldName   = 1
	fieldValues = 2
)

// Result is a framegate.v1.Result: what a target answered.
type Result struct {
	Node              string
	Code              uint32
	Message           string
	Headers, Trailers map[string][]string
	Payload           []byte // nil for none
}

// AppendResult appends r to dst, the encoding of a framegate.v1.FanoutReply.
func AppendResult(dst []byte, r Result) []byte {
	var b []byte
	if r.Node != "" {
		b = appendText(b, resultNode, r.Node)
	}
	if r.Code != 0 {
		b = protowire.AppendTag(b, resultCode, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(r.Code))
	}
	if r.Message != "" {
		b = appendText(b, resultMessage, r.Message)
	}
	b = appendFields(b, resultHeaders, r.Headers)
	b = appendFields(b, resultTrailers, r.Trailers)
	if r.Payload != nil {
		b = appendBytes(b, resultPayload, r.Payload)
	}
	return appendBytes(dst, replyResults, b)
}

func appendText(dst []byte, num int, s string) []byte {
	return appendBytes(dst, num, []byte(Text(s)))
}

// appendFields appends headers or trailers, sorted by name.
func appendFields(dst []byte, num int, fields map[string][]string) []byte {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		field := appendText(nil, fieldName, name)
		for _, v := range fields[name] {
			field = appendBytes(field, fieldValues, []byte(v))
		}
		dst = appendBytes(dst, num, field)
	}
	return dst
}
