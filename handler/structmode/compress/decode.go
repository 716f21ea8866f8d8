package compress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
)

const (
	firstScratch = 4 << 10   // bytes that a decoder starts with
	keepScratch  = 256 << 10 // a scratch buffer over this is handed to the caller, not kept
)

// decoder reads one message after another.
type decoder interface {
	io.Reader // what the message decodes to, io.EOF after its end

	// reset starts a message that in holds whole. It takes no byte from in but those of the message.
	reset(in *bytes.Reader) error
}

// inflater is a decoder with the buffers to read a message through it. It is pooled, and between messages it holds
// nothing of theirs.
type inflater struct {
	decoder decoder
	in      bytes.Reader
	scratch []byte // decoded bytes, before their number is known
}

// inflate decodes src as Codec.Decompress says. The result is the caller's. own is what the decoder takes for itself.
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

// read reads to the end, doubling the scratch buffer as bytes come, but never past one byte over limit.
func (f *inflater) read(limit int64, room Room) (out []byte, err error) {
	most := math.MaxInt // bytes that are worth reading: one over limit shows that it is passed
	if limit > 0 && limit < math.MaxInt {
		most = int(limit) + 1
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
			size := min(2*cap(buf), most)
			if err := room.Take(int64(size)); err != nil {
				return nil, err
			}
			buf = append(make([]byte, 0, size), buf...)
			room.Give(taken)
			taken = int64(size)
		}
		n, err := f.decoder.Read(buf[len(buf):min(cap(buf), most)])
		buf = buf[:len(buf)+n]
		switch {
		case limit > 0 && int64(len(buf)) > limit:
			return nil, tooLarge(limit)
		case err == io.EOF:
			if cap(buf) > keepScratch { // it is the caller's
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

// decodeError tells what is too large from what is corrupt.
func decodeError(err error) error {
	if errors.Is(err, ErrTooLarge) {
		return err
	}
	return corrupt(err)
}
