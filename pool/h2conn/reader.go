package h2conn

import (
	"bytes"
	"errors"
	"io"

	"github.com/cloudwego/netpoll"
)

// bufferSize holds three of the largest frames that a peer may send us (16 KiB and 9 bytes, RFC 9113 §4.2), so that one
// read of the socket serves several frames.
const bufferSize = 64 << 10

// firstBufferSize is enough until the first Release: a peer that says nothing costs little.
const firstBufferSize = 512

// lowRoom is the room at the end of the buffer below which what is left to consume moves to the front: a whole frame
// should fit behind it.
const lowRoom = 17 << 10

// errTooLong says that more was asked for than any frame may have. It cannot happen with the frame size that Kitex
// announces.
var errTooLong = errors.New("h2conn: more than a buffer was asked for at once")

// Reader is a netpoll.Reader over a plain connection: one goroutine reads, a read of the socket takes as much as there
// is room for, and every byte is shown to seen once, before anybody acts on it.
//
// A slice from Next, Peek or Until is valid until Release. Release may be left out any number of times (Kitex does
// after a stream error): memory that is then still in use is left to the garbage collector.
type Reader struct {
	src  io.Reader
	seen func([]byte) // shown what came in; nil for nobody

	buf   []byte // buf[r:w] has been read and not consumed
	r, w  int
	spare []byte // a buffer that nobody uses
	old   []byte // a buffer replaced since the last Release, whose slices may be in use
}

var _ netpoll.Reader = (*Reader)(nil)

// NewReader returns a Reader of src. seen, if not nil, is called from the reading goroutine with each piece that was
// read and must not keep it.
func NewReader(src io.Reader, seen func([]byte)) *Reader {
	return &Reader{src: src, seen: seen, buf: make([]byte, firstBufferSize)}
}

// fill blocks until n bytes are there to consume.
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

// move takes the unconsumed bytes to the start of a buffer that no slice points into.
func (r *Reader) move() {
	next := r.spare
	r.spare = nil
	if next == nil {
		next = make([]byte, bufferSize)
	}
	n := copy(next, r.buf[r.r:r.w])
	if len(r.buf) == bufferSize { // not the first, smaller one
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

// Read implements io.Reader: it returns what is there, or what the next read of the socket gives.
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

// Slice implements netpoll.Reader. The returned Reader has a copy.
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

// Len implements netpoll.Reader: bytes that can be consumed without blocking.
func (r *Reader) Len() int { return r.w - r.r }
