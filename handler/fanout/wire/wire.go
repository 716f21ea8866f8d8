// Package wire puts replies together by their encodings, without their schema (protobuf.dev, "Encoding"): it appends who an
// element is of, and joins the elements of several replies.
//
// Enter at Fields.Join and Fields.Origin; envelope.go encodes framegate.v1.FanoutReply.
package wire

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/framegate/framegate/resolver/spec"
)

// Fields are the numbers of the fields of replies. 0 leaves a field out, except of Messages.
type Fields spec.AggregateFields

// Origin says who an element is of, and how that target failed if it did.
type Origin struct {
	Node   string
	Error  string // the text of the target's status; empty for OK
	Status []byte // an encoded google.rpc.Status; nil for OK
}

// Origin returns the encoded field that is appended to the elements and messages of a target; empty if there is no such field.
func (f Fields) Origin(o Origin) []byte {
	if f.Metadata == 0 {
		return nil
	}
	var inner []byte
	text := func(num int, s string) {
		if num != 0 && s != "" {
			inner = protowire.AppendTag(inner, protowire.Number(num), protowire.BytesType)
			inner = protowire.AppendString(inner, s)
		}
	}
	text(f.Node, Text(o.Node))
	text(f.Error, Text(o.Error))
	text(f.Status, string(o.Status))
	return appendBytes(nil, f.Metadata, inner)
}

func appendBytes(dst []byte, num int, value []byte) []byte {
	dst = protowire.AppendTag(dst, protowire.Number(num), protowire.BytesType)
	return protowire.AppendBytes(dst, value)
}

// Text returns s with U+FFFD in place of what is not UTF-8, which readers of a proto3 string refuse.
func Text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// ErrShape means that a reply is not a list of elements in the field Messages, and nothing else, or that an element or a message of a
// stream is no sequence of whole fields: what is appended to it would be lost in it.
var ErrShape = errors.New("a reply of another shape")

// Whole returns an error that is ErrShape unless b is a sequence of whole fields.
func Whole(b []byte) error {
	for len(b) > 0 {
		_, _, n := protowire.ConsumeField(b)
		if n < 0 {
			return fmt.Errorf("%w: %w", ErrShape, protowire.ParseError(n))
		}
		b = b[n:]
	}
	return nil
}

// Join appends the elements of a reply to dst, each with origin, which Fields.Origin returned, at its end. A reply without
// elements becomes an element of origin alone, if that is not empty. It fails with ErrShape, and then returns dst as it was.
func (f Fields) Join(dst, reply, origin []byte) ([]byte, error) {
	was := len(dst)
	if len(reply) == 0 {
		return f.Alone(dst, origin), nil
	}
	for rest := reply; len(rest) > 0; {
		num, typ, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return dst[:was], fmt.Errorf("%w: %w", ErrShape, protowire.ParseError(n))
		}
		if int(num) != f.Messages || typ != protowire.BytesType {
			return dst[:was], fmt.Errorf("%w: field %d of wire type %d, want field %d of wire type %d", ErrShape, num, typ, f.Messages, protowire.BytesType)
		}
		element, k := protowire.ConsumeBytes(rest[n:])
		if k < 0 {
			return dst[:was], fmt.Errorf("%w: %w", ErrShape, protowire.ParseError(k))
		}
		if err := Whole(element); err != nil {
			return dst[:was], err
		}
		dst = f.element(dst, element, origin)
		rest = rest[n+k:]
	}
	return dst, nil
}

// Alone appends an element of origin alone to dst, if origin is not empty.
func (f Fields) Alone(dst, origin []byte) []byte {
	if len(origin) == 0 {
		return dst
	}
	return f.element(dst, nil, origin)
}

// element appends an element, with origin at its end, to dst.
func (f Fields) element(dst, element, origin []byte) []byte {
	dst = protowire.AppendTag(dst, protowire.Number(f.Messages), protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(len(element)+len(origin)))
	dst = append(dst, element...)
	return append(dst, origin...)
}
