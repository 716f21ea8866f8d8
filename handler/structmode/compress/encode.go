package compress

import (
	"io"
	"slices"
)

// encoder writes one message after another; Close ends a message.
type encoder interface {
	io.WriteCloser
	Reset(w io.Writer)
}

// deflater is an encoder with the slice that it writes to. It is pooled, and between messages it holds nothing of
// theirs.
type deflater struct {
	encoder encoder
	out     appender
}

// deflate appends the encoding of src to dst. own is what the encoder takes for itself.
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

// encodedBytes is what the encoding of n bytes may take while it grows.
func encodedBytes(n int64) int64 { return 9*n/4 + 1<<10 }

// EncodeBytes is what Compress takes of its room for n bytes, at most.
func EncodeBytes(n int64) int64 {
	return max(gzipEncoderBytes, deflateEncoderBytes, snappyEncoderBytes, zstdEncoderBytes) + encodedBytes(n)
}

// encodePart is how much is encoded at once, between two looks at whether it is still wanted.
const encodePart = 1 << 20

// encoded runs encode with the room that it needs, and leaves taken what its result has more than dst. A result that grows
// as it comes takes up to twice its size and a little, and no encoding makes much more of a message than it was.
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
