package compress

import (
	"io"
	"slices"
)

// encoder encodes one message after another. Reset starts a message, and Close ends it.
type encoder interface {
	io.WriteCloser
	Reset(w io.Writer)
}

// deflater is an encoder with the slice that it writes to. It is pooled. Between two messages it refers to nothing of either.
type deflater struct {
	encoder encoder
	out     appender
}

// deflate appends the encoding of src to dst. own is how many bytes of memory the encoder itself needs.
func (d *deflater) deflate(dst, src []byte, room Room, own int64) ([]byte, error) {
	return encoded(dst, src, room, own, func() ([]byte, error) {
		d.out.b = dst
		defer func() { d.out.b = nil }()
		d.encoder.Reset(&d.out)
		for part := range slices.Chunk(src, encodePart) {
			if err := room.Err(); err != nil {
				return nil, err
			}
			if _, err := d.encoder.Write(part); err != nil {
				return nil, err
			}
		}
		if err := d.encoder.Close(); err != nil {
			return nil, err
		}
		return d.out.b, nil
	})
}

// encodedBytes bounds the memory of the result while n bytes are encoded. A slice that grows by appending takes up to twice
// its length, and no encoding makes a message much longer.
func encodedBytes(n int64) int64 { return 9*n/4 + 1<<10 }

// EncodeBytes bounds what Compress takes of its Room for a message of n bytes, whatever the encoding.
func EncodeBytes(n int64) int64 {
	return max(gzipEncoderBytes, deflateEncoderBytes, snappyEncoderBytes, zstdEncoderBytes) + encodedBytes(n)
}

// encodePart is how many bytes are encoded between two calls of Room.Err.
const encodePart = 1 << 20

// encoded takes from room what encode needs, calls it, and gives back everything but the memory by which its result is
// larger than dst.
func encoded(dst, src []byte, room Room, own int64, encode func() ([]byte, error)) ([]byte, error) {
	taken := own + encodedBytes(int64(len(src)))
	if err := room.Take(taken); err != nil {
		return nil, err
	}
	out, err := encode()
	if err != nil {
		room.Give(taken)
		return nil, err
	}
	room.Give(taken - min(taken, int64(cap(out)-cap(dst))))
	return out, nil
}

// appender is an io.Writer to the end of a slice.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}
