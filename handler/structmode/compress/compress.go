// Package compress decodes and encodes messages of a grpc-encoding, whole and in memory.
//
// Enter at Get; then decode.go (how a message is read within its limit), encode.go (how one is written), room.go (who is
// asked for memory), and one file for each encoding: gzip.go, deflate.go, snappy.go, zstd.go.
package compress

import (
	"errors"
	"fmt"
	"io"
)

var (
	// ErrTooLarge says that a message decodes to more than the limit, or needs more memory to decode than is given to
	// any message. The peer may send a smaller one; the call ends with RESOURCE_EXHAUSTED.
	ErrTooLarge = errors.New("message too large")

	// ErrCorrupt says that the bytes are not a message of the encoding: damaged, cut short, or followed by others. It
	// is wrapped together with its cause. The call ends with INVALID_ARGUMENT.
	ErrCorrupt = errors.New("message corrupt")
)

// Codec decodes and encodes messages of one grpc-encoding. Use Get; the zero Codec is not usable. A Codec is a value:
// any number of goroutines may use it at once.
type Codec struct {
	name   string
	format format
	room   Room
}

// format is how an encoding is read and written. Its errors lack the name of the encoding, which Codec adds.
type format interface {
	decompress(src []byte, limit int64, room Room) ([]byte, error)
	compress(dst, src []byte, room Room) ([]byte, error)
}

// Get returns the codec of a grpc-encoding: gzip, deflate, snappy, zstd or identity. It is false for any other name.
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

// Name is the grpc-encoding, as in the header.
func (c Codec) Name() string { return c.name }

// Decompress decodes one message. The result is the caller's, and for identity it is src itself.
//
// limit is the size in bytes that the decoded message may have; 0 or less means any. A message over it is ErrTooLarge
// as soon as that is known. Memory is taken for bytes that were decoded, never for a size that the message announces:
// about twice limit at most, and what the decoder itself needs (for zstd up to its window of MaxWindow).
//
// Anything that is not one whole message is ErrCorrupt, also an empty src (but for identity) and bytes after the end.
func (c Codec) Decompress(src []byte, limit int64) ([]byte, error) {
	out, err := c.format.decompress(src, limit, c.room)
	if err != nil {
		return nil, fmt.Errorf("compress: decode %s of %d bytes: %w", c.name, len(src), err)
	}
	return out, nil
}

// Compress appends the encoding of src to dst, which may be nil, and returns the result. It keeps neither. identity
// returns src itself when dst is empty.
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

// corrupt wraps cause. An end of input inside a message must not look like the end of a stream to who asks errors.Is.
func corrupt(cause error) error {
	if cause == io.EOF {
		cause = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, cause)
}
