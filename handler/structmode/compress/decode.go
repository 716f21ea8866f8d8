package compress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
)

const (
	firstScratch = 4 << 10   // size of a new scratch buffer
	keepScratch  = 256 << 10 // largest scratch buffer that is kept for the next message
)

// decoder decodes one message after another.
type decoder interface {
	io.Reader // reads the decoded message, with io.EOF at its end

	// reset starts the next message, all of which is in in. The decoder reads no byte of in behind the message.
	reset(in *bytes.Reader) error
}

// inflater is a decoder with the buffers that it needs. It is pooled. Between two messages it refers to nothing of either.
type inflater struct {
	decoder decoder
	in      bytes.Reader
	scratch []byte // buffer for decoded bytes while their number is unknown
}

// inflate decodes src as Codec.Decompress says. own is how many bytes of memory the decoder itself needs.
func (f *inflater) inflate(src []byte, limit int64, room Room, own int64) ([]byte, error) {
	f.in.Reset(src)
	defer f.in.Reset(nil)
	if err := room.Take(own); err != nil {
		return nil, err
	}
	defer room.Give(own)
	if len(src) == 0 {
		return nil, corrupt(io.EOF)
	}
	if err := f.decoder.reset(&f.in); err != nil {
		return nil, decodeError(err)
	}
	out, err := f.read(limit, room)
	if err != nil {
		return nil, err
	}
	if n := f.in.Len(); n > 0 {
		room.Give(int64(cap(out)))
		return nil, corrupt(fmt.Errorf("%d bytes after the end", n))
	}
	return out, nil
}

// read reads the decoded message to its end. The scratch buffer doubles as bytes come, up to one byte more than limit.
func (f *inflater) read(limit int64, room Room) (out []byte, err error) {
	maxLen := math.MaxInt // one more than limit: that byte shows that the message is over it
	if limit > 0 && limit < math.MaxInt {
		maxLen = int(limit) + 1
	}
	if f.scratch == nil {
		f.scratch = make([]byte, 0, firstScratch)
	}
	buf := f.scratch[:0]
	taken := int64(cap(buf))
	if err := room.Take(taken); err != nil {
		return nil, err
	}
	defer func() { room.Give(taken) }()
	for idle := 0; ; {
		if len(buf) == cap(buf) {
			size := min(2*cap(buf), maxLen)
			if err := room.Take(int64(size)); err != nil {
				return nil, err
			}
			buf = append(make([]byte, 0, size), buf...)
			room.Give(taken)
			taken = int64(size)
		}
		n, err := f.decoder.Read(buf[len(buf):min(cap(buf), maxLen)])
		buf = buf[:len(buf)+n]
		switch {
		case limit > 0 && int64(len(buf)) > limit:
			return nil, tooLarge(limit)
		case err == io.EOF:
			if cap(buf) > keepScratch { // the caller gets the buffer itself
				f.scratch, taken = nil, 0
				return buf, nil
			}
			f.scratch = buf
			if err := room.Take(int64(len(buf))); err != nil {
				return nil, err
			}
			return append(make([]byte, 0, len(buf)), buf...), nil
		case err != nil:
			return nil, decodeError(err)
		case n > 0:
			idle = 0
			if err := room.Err(); err != nil {
				return nil, err
			}
		default:
			if idle++; idle == 100 {
				return nil, corrupt(io.ErrNoProgress)
			}
		}
	}
}

// decodeError wraps an error of a decoder in ErrCorrupt, unless it is an ErrTooLarge.
func decodeError(err error) error {
	if errors.Is(err, ErrTooLarge) {
		return err
	}
	return corrupt(err)
}
