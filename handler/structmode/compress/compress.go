// Package compress decodes and encodes messages of a grpc-encoding, whole and in memory.
//
// Enter at Get; then decode.go (decodes a message within a limit), encode.go (encodes one), room.go (counts the memory of
// both), and one file for each encoding: gzip.go, deflate.go, snappy.go, zstd.go.
// The encodings that are forwarded without being decoded are in handler/encoding.go.
package compress

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

var (
	// ErrTooLarge says that a message decodes to more than the limit, or needs more memory to decode than any message may
	// have. The call ends with RESOURCE_EXHAUSTED; the peer may send a smaller message.
	ErrTooLarge = errors.New("message too large")

	// ErrCorrupt says that the bytes are not one message of the encoding: they are damaged, cut short, or followed by other
	// bytes. It is wrapped together with its cause. The call ends with INVALID_ARGUMENT.
	ErrCorrupt = errors.New("message corrupt")
)

// Codec decodes and encodes messages of one grpc-encoding. Get returns one; the zero Codec is not usable. A Codec without a
// Room is safe for concurrent use; see Within.
type Codec struct {
	name   string
	format format
	room   Room
}

// format implements one encoding; see Codec for the contract of its methods. Codec adds the name of the encoding to its
// errors.
type format interface {
	decompress(src []byte, limit int64, room Room) ([]byte, error)
	compress(dst, src []byte, room Room) ([]byte, error)
}

// Get returns the codec of a grpc-encoding: gzip, deflate, snappy, zstd or identity. It returns false for any other name.
func Get(name string) (Codec, bool) {
	var f format
	switch name {
	case "identity":
		f = identity{}
	case "gzip":
		f = gzipFormat{}
	case "deflate":
		f = deflateFormat{}
	case "snappy":
		f = snappyFormat{}
	case "zstd":
		f = zstdFormat{}
	default:
		return Codec{}, false
	}
	return Codec{name: name, format: f, room: endless{}}, true
}

// Known returns those of the encodings in a grpc-accept-encoding that Get knows, as a grpc-accept-encoding; "" if there are none.
func Known(accept string) string {
	var known []string
	for name := range strings.SplitSeq(accept, ",") {
		name = strings.TrimSpace(name)
		if _, ok := Get(name); ok {
			known = append(known, name)
		}
	}
	return strings.Join(known, ",")
}

// Name returns the name of the encoding, as in the header grpc-encoding.
func (c Codec) Name() string { return c.name }

// Decompress decodes one message. The caller owns the result, which for identity is src itself.
//
// limit bounds the size of the decoded message, in bytes; 0 or less means no bound. Decompress fails with ErrTooLarge as
// soon as the message is known to be longer. It allocates memory for bytes that were decoded, never for a size that the
// message announces: at most about twice limit, and what the decoder itself needs (for zstd up to its window of MaxWindow).
//
// Decompress fails with ErrCorrupt if src is anything but one whole message, such as an empty src (except for identity) or a
// message with bytes behind its end.
func (c Codec) Decompress(src []byte, limit int64) ([]byte, error) {
	out, err := c.format.decompress(src, limit, c.room)
	if err != nil {
		return nil, fmt.Errorf("compress: decode %s of %d bytes: %w", c.name, len(src), err)
	}
	return out, nil
}

// Compress appends the encoding of src to dst, which may be nil, and returns the result. It keeps neither slice. For
// identity and an empty dst, the result is src itself.
func (c Codec) Compress(dst, src []byte) ([]byte, error) {
	out, err := c.format.compress(dst, src, c.room)
	if err != nil {
		return nil, fmt.Errorf("compress: encode %d bytes as %s: %w", len(src), c.name, err)
	}
	return out, nil
}

// identity is the encoding that leaves messages as they are.
type identity struct{}

func (identity) decompress(src []byte, limit int64, _ Room) ([]byte, error) {
	if limit > 0 && int64(len(src)) > limit {
		return nil, tooLarge(limit)
	}
	return src, nil
}

func (identity) compress(dst, src []byte, _ Room) ([]byte, error) {
	if len(dst) == 0 {
		return src, nil
	}
	return append(dst, src...), nil
}

func tooLarge(limit int64) error {
	return fmt.Errorf("%w: decodes to more than %d bytes", ErrTooLarge, limit)
}

// corrupt wraps cause in ErrCorrupt. It replaces io.EOF, with which a decoder reports that the message is cut short, by
// io.ErrUnexpectedEOF, so that callers do not take it for the end of a stream.
func corrupt(cause error) error {
	if cause == io.EOF {
		cause = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, cause)
}
