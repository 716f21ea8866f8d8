package h2conn

import (
	"bytes"
	"errors"
	"io"

	"github.com/cloudwego/netpoll"
)

// bufferSize is the size of the buffer. It holds three of the largest frames that a peer may send (16 KiB and 9 bytes, RFC
// 9113 §4.2), so that one read of the socket may bring several frames.
const bufferSize = 64 << 10

// firstBufferSize is the size of the buffer until the first Release, so that a peer that sends nothing takes little memory.
const firstBufferSize = 512

// lowRoom is the free space at the end of the buffer below which Release moves the unconsumed bytes to the front. The
// largest frame fits into it.
const lowRoom = 17 << 10

// errTooLong says that a caller asked for more bytes than the buffer holds. Kitex does not, because it announces a smaller
// frame size.
var errTooLong = errors.New("h2conn: more than a buffer was asked for at once")

// Reader is a netpoll.Reader over a plain connection. One goroutine uses it. A read of the socket takes as many bytes as the
// buffer has room for. Each piece that was read is passed to the function seen once, before it can be consumed.
//
// A slice from Next, Peek or Until is valid until Release. Release need not be called each time (Kitex does not after a
// stream error): memory that may still be in use then is left to the garbage collector.
type Reader struct {
	src  io.Reader
	seen func([]byte) // may be nil

	buf   []byte // buf[r:w] was read and is not consumed
	r, w  int
	spare []byte // a buffer that is not in use; nil if there is none
	old   []byte // the buffer that was replaced since the last Release: slices of it may be in use
}

var _ netpoll.Reader = (*Reader)(nil)

// NewReader returns a Reader of src. seen, if not nil, is called with each piece that was read, by the goroutine that reads.
// It must not keep the piece.
func NewReader(src io.Reader, seen func([]byte)) *Reader {
	return &Reader{src: src, seen: seen, buf: make([]byte, firstBufferSize)}
}

// fill reads until n bytes can be consumed.
func (r *Reader) fill(n int) error {
	if n > bufferSize {
		return errTooLong
	}
	if len(r.buf)-r.r < n {
		r.move()
	}
	for r.w-r.r < n {
		m, err := r.src.Read(r.buf[r.w:])
		if m > 0 && r.seen != nil {
			r.seen(r.buf[r.w : r.w+m])
		}
		r.w += m
		if err != nil && r.w-r.r < n {
			return err
		}
	}
	return nil
}

// move copies the unconsumed bytes to the start of another buffer, of which no slice is in use.
func (r *Reader) move() {
	next := r.spare
	r.spare = nil
	if next == nil {
		next = make([]byte, bufferSize)
	}
	n := copy(next, r.buf[r.r:r.w])
	if len(r.buf) == bufferSize { // the first, smaller buffer is not used again
		r.old = r.buf
	}
	r.buf, r.r, r.w = next, 0, n
}

// Next implements netpoll.Reader.
func (r *Reader) Next(n int) ([]byte, error) {
	p, err := r.Peek(n)
	r.r += len(p)
	return p, err
}

// Peek implements netpoll.Reader.
func (r *Reader) Peek(n int) ([]byte, error) {
	if r.w-r.r < n {
		if err := r.fill(n); err != nil {
			return nil, err
		}
	}
	return r.buf[r.r : r.r+n : r.r+n], nil
}

// Release implements netpoll.Reader.
func (r *Reader) Release() error {
	if r.old != nil {
		r.spare, r.old = r.old, nil
	}
	switch {
	case len(r.buf) < bufferSize:
		r.move()
	case r.r == r.w:
		r.r, r.w = 0, 0
	case r.r > 0 && len(r.buf)-r.w < lowRoom:
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
	return nil
}

// Read implements io.Reader: it returns bytes from the buffer or, if that is empty, from one read of the socket.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.r == r.w {
		if err := r.fill(1); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.buf[r.r:r.w])
	r.r += n
	return n, nil
}

// Skip implements netpoll.Reader.
func (r *Reader) Skip(n int) error {
	_, err := r.Next(n)
	return err
}

// ReadByte implements netpoll.Reader.
func (r *Reader) ReadByte() (byte, error) {
	p, err := r.Next(1)
	if err != nil {
		return 0, err
	}
	return p[0], nil
}

// ReadString implements netpoll.Reader.
func (r *Reader) ReadString(n int) (string, error) {
	p, err := r.Next(n)
	return string(p), err
}

// ReadBinary implements netpoll.Reader.
func (r *Reader) ReadBinary(n int) ([]byte, error) {
	p, err := r.Next(n)
	return bytes.Clone(p), err
}

// Slice implements netpoll.Reader. The returned Reader has a copy of the bytes.
func (r *Reader) Slice(n int) (netpoll.Reader, error) {
	p, err := r.ReadBinary(n)
	if err != nil {
		return nil, err
	}
	return &Reader{src: bytes.NewReader(nil), buf: p, w: len(p)}, r.Release()
}

// Until implements netpoll.Reader, for lines of at most 64 KiB.
func (r *Reader) Until(delim byte) ([]byte, error) {
	for have := 0; ; {
		if i := bytes.IndexByte(r.buf[r.r+have:r.w], delim); i >= 0 {
			return r.Next(have + i + 1)
		}
		have = r.w - r.r
		if err := r.fill(have + 1); err != nil {
			line, _ := r.Next(r.w - r.r)
			return line, err
		}
	}
}

// Len implements netpoll.Reader: it returns the number of bytes that can be consumed without blocking.
func (r *Reader) Len() int { return r.w - r.r }
