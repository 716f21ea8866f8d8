package frame

import (
	"encoding/binary"
	"io"
	"math"
	"sync/atomic"

	"github.com/framegate/framegate/handler/budget"
	"github.com/framegate/framegate/handler/local"
)

const (
	PrefixLen = 5 // compressed flag and message length, gRPC over HTTP/2 "Length-Prefixed-Message"

	// pieceLen is how much of a message is copied at once, prefix included, so that memory does not grow with messages.
	// With its spare bytes it is a size that mcache has.
	pieceLen = 32<<10 - spareLen
)

// Reader reads a stream: Read fills p, or fails with io.EOF at the clean end of the stream.
type Reader interface {
	Read(p []byte) (int, error)
}

// Writer writes a stream. Piece returns n bytes to fill; Write takes over p, which Piece returned.
type Writer interface {
	Piece(n int) []byte
	Write(p []byte) error
}

// Taker takes whole messages. It returns what is to be forwarded behind the same flag, which may be payload, and
// false if nothing is. It keeps neither.
type Taker interface {
	TakeMessage(flag byte, payload []byte) (out []byte, forward bool, err error)
}

// Redirect copies gRPC frames of one direction of a call: in pieces and unchanged or, with a taker, whole. It is used by
// one goroutine at a time.
type Redirect struct {
	Src      Reader
	Dst      Writer
	Taker    Taker     // nil in frame mode
	MaxBytes int64     // of one message; 0 means no limit
	Progress *Progress // hears of what was read; nil for nobody

	prefix   [PrefixLen]byte
	left     int64 // payload bytes of the current message to come
	Messages int64
	Bytes    int64 // moved so far, prefixes included

	Share *budget.Share // what the message under way takes of the budget; nil for no bound
	whole []byte        // room for the message under way, with a taker
	Held  []byte        // payload of a message that was taken and waits for dst, behind prefix; nil for none
}

// RedirectFrame copies frames until the source ends. It returns nil when that was between two messages, else a
// readError, a writeError, errTooLarge, errBadFlag, errTruncated or an error of the taker.
func (r *Redirect) RedirectFrame() error {
	for {
		if end, err := r.Step(); end || err != nil {
			return err
		}
	}
}

// Step moves the next piece, or with a taker takes the next message or forwards the one that is held, and reports whether
// the source ended instead.
func (r *Redirect) Step() (end bool, err error) {
	if r.left > 0 {
		return false, r.move(0)
	}
	if r.Held != nil {
		return false, r.release()
	}
	if _, err := r.Src.Read(r.prefix[:]); err != nil {
		switch err {
		case io.EOF:
			return true, nil
		case io.ErrUnexpectedEOF:
			return false, ErrTruncated
		}
		return false, ReadError{Err: err}
	}
	r.Progress.Moved()
	n := int64(binary.BigEndian.Uint32(r.prefix[1:]))
	switch {
	case r.prefix[0] > 1:
		return false, ErrBadFlag
	case r.MaxBytes > 0 && n > r.MaxBytes:
		return false, ErrTooLarge
	}
	r.Messages++
	if r.Taker != nil {
		return false, r.take(n)
	}
	r.left = n
	return false, r.move(PrefixLen)
}

// wholeKept is how much room for a message is kept for the next one. So much of a message that comes or goes is no part of
// the budget: it is less than the stream's window.
const wholeKept = 64 << 10

// take reads a payload of n bytes and gives it to the taker. What is to be forwarded is held. Memory is taken as the
// payload comes, whatever was announced.
func (r *Redirect) take(n int64) error {
	p := r.whole[:0]
	for left := n; left > 0; {
		piece := int(min(left, pieceLen))
		if room := len(p) + piece; room > cap(p) {
			size := min(n, int64(max(2*cap(p), room)))
			before := r.Share.Held()
			if size > wholeKept {
				if err := r.Share.TakeLong(size); err != nil {
					return local.RoomError(err, "message")
				}
			}
			p = append(make([]byte, 0, size), p...)
			r.Share.Give(before)
		}
		p = p[:len(p)+piece]
		if err := r.fill(p[len(p)-piece:]); err != nil {
			return err
		}
		left -= int64(piece)
	}
	if r.whole = p; cap(p) > wholeKept {
		r.whole = nil // an idle stream holds no large message
	}
	out, forward, err := r.Taker.TakeMessage(r.prefix[0], p)
	if err != nil || !forward {
		r.Share.Free()
		return err
	}
	if int64(len(out)) > math.MaxUint32 {
		return ErrTooLarge
	}
	if err := r.Share.KeepLong(beyondKept(out)); err != nil {
		return local.RoomError(err, "message")
	}
	binary.BigEndian.PutUint32(r.prefix[1:], uint32(len(out)))
	if r.Held = out; out == nil {
		r.Held = []byte{}
	}
	return nil
}

// beyondKept returns what a message takes of the budget while it is held.
func beyondKept(p []byte) int64 {
	if cap(p) <= wholeKept {
		return 0
	}
	return int64(cap(p))
}

// release forwards the held message.
func (r *Redirect) release() error {
	out := r.Held
	r.Held = nil
	defer r.Share.Free()
	for nprefix := PrefixLen; nprefix > 0 || len(out) > 0; nprefix = 0 {
		n := min(len(out), pieceLen-nprefix)
		p := r.Dst.Piece(nprefix + n)
		copy(p, r.prefix[:nprefix])
		copy(p[nprefix:], out[:n])
		out = out[n:]
		r.Bytes += int64(len(p))
		if err := r.Dst.Write(p); err != nil {
			return WriteError{Err: err}
		}
		r.Share.Moved(n)
	}
	return nil
}

// fill reads the next bytes of a payload.
func (r *Redirect) fill(p []byte) error {
	if _, err := r.Src.Read(p); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return ErrTruncated
		}
		return ReadError{Err: err}
	}
	r.Progress.Moved()
	r.Share.Moved(len(p))
	return nil
}

// move forwards the next piece of the payload, behind the prefix if nprefix is not 0. It waits until the piece is
// whole: less of a message is of no use to anybody.
func (r *Redirect) move(nprefix int) error {
	n := int(min(r.left, int64(pieceLen-nprefix)))
	p := r.Dst.Piece(nprefix + n)
	copy(p, r.prefix[:nprefix])
	if n > 0 {
		if err := r.fill(p[nprefix:]); err != nil {
			return err
		}
	}
	r.left -= int64(n)
	r.Bytes += int64(len(p))
	if err := r.Dst.Write(p); err != nil {
		return WriteError{Err: err}
	}
	return nil
}

// Progress counts what was read to be forwarded: frames, or pieces of them.
type Progress struct{ n atomic.Uint32 }

// Moved notes that something was read. p may be nil.
func (p *Progress) Moved() {
	if p != nil {
		p.n.Add(1)
	}
}

// Count returns how much was read so far, as a number that wraps around.
func (p *Progress) Count() uint32 { return p.n.Load() }
