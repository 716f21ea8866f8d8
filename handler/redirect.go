package handler

import (
	"encoding/binary"
	"io"
	"math"
	"sync/atomic"

	"github.com/framegate/framegate/handler/budget"
)

const (
	prefixLen = 5 // compressed flag and message length, gRPC over HTTP/2 "Length-Prefixed-Message"

	// pieceLen is how much of a message is copied at once, prefix included, so that memory does not grow with messages.
	// With its spare bytes it is a size that mcache has.
	pieceLen = 32<<10 - spareLen
)

// frameReader reads a stream: Read fills p, or fails with io.EOF at the clean end of the stream.
type frameReader interface {
	Read(p []byte) (int, error)
}

// frameWriter writes a stream. Piece returns n bytes to fill; Write takes over p, which Piece returned.
type frameWriter interface {
	Piece(n int) []byte
	Write(p []byte) error
}

// messageTaker takes whole messages. It returns what is to be forwarded behind the same flag, which may be payload, and
// false if nothing is. It keeps neither.
type messageTaker interface {
	take(flag byte, payload []byte) (out []byte, forward bool, err error)
}

// redirect copies gRPC frames of one direction of a call: in pieces and unchanged or, with a taker, whole. It is used by
// one goroutine at a time.
type redirect struct {
	src      frameReader
	dst      frameWriter
	taker    messageTaker // nil in frame mode
	maxBytes int64        // of one message; 0 means no limit
	progress *progress    // hears of what was read; nil for nobody

	prefix   [prefixLen]byte
	left     int64 // payload bytes of the current message to come
	messages int64
	bytes    int64 // moved so far, prefixes included

	share *budget.Share // what the message under way takes of the budget; nil for no bound
	whole []byte        // room for the message under way, with a taker
	held  []byte        // payload of a message that was taken and waits for dst, behind prefix; nil for none
}

// redirectFrame copies frames until the source ends. It returns nil when that was between two messages, else a
// readError, a writeError, errTooLarge, errBadFlag, errTruncated or an error of the taker.
func (r *redirect) redirectFrame() error {
	for {
		if end, err := r.step(); end || err != nil {
			return err
		}
	}
}

// step moves the next piece, or with a taker takes the next message or forwards the one that is held, and reports whether
// the source ended instead.
func (r *redirect) step() (end bool, err error) {
	if r.left > 0 {
		return false, r.move(0)
	}
	if r.held != nil {
		return false, r.release()
	}
	if _, err := r.src.Read(r.prefix[:]); err != nil {
		switch err {
		case io.EOF:
			return true, nil
		case io.ErrUnexpectedEOF:
			return false, errTruncated
		}
		return false, readError{err}
	}
	r.progress.moved()
	n := int64(binary.BigEndian.Uint32(r.prefix[1:]))
	switch {
	case r.prefix[0] > 1:
		return false, errBadFlag
	case r.maxBytes > 0 && n > r.maxBytes:
		return false, errTooLarge
	}
	r.messages++
	if r.taker != nil {
		return false, r.take(n)
	}
	r.left = n
	return false, r.move(prefixLen)
}

// wholeKept is how much room for a message is kept for the next one. So much of a message that comes or goes is no part of
// the budget: it is less than the stream's window.
const wholeKept = 64 << 10

// take reads a payload of n bytes and gives it to the taker. What is to be forwarded is held. Memory is taken as the
// payload comes, whatever was announced.
func (r *redirect) take(n int64) error {
	p := r.whole[:0]
	for left := n; left > 0; {
		piece := int(min(left, pieceLen))
		if room := len(p) + piece; room > cap(p) {
			size := min(n, int64(max(2*cap(p), room)))
			before := r.share.Held()
			if size > wholeKept {
				if err := r.share.TakeLong(size); err != nil {
					return roomError(err, "message")
				}
			}
			p = append(make([]byte, 0, size), p...)
			r.share.Give(before)
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
	out, forward, err := r.taker.take(r.prefix[0], p)
	if err != nil || !forward {
		r.share.Free()
		return err
	}
	if int64(len(out)) > math.MaxUint32 {
		return errTooLarge
	}
	if err := r.share.KeepLong(beyondKept(out)); err != nil {
		return roomError(err, "message")
	}
	binary.BigEndian.PutUint32(r.prefix[1:], uint32(len(out)))
	if r.held = out; out == nil {
		r.held = []byte{}
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
func (r *redirect) release() error {
	out := r.held
	r.held = nil
	defer r.share.Free()
	for nprefix := prefixLen; nprefix > 0 || len(out) > 0; nprefix = 0 {
		n := min(len(out), pieceLen-nprefix)
		p := r.dst.Piece(nprefix + n)
		copy(p, r.prefix[:nprefix])
		copy(p[nprefix:], out[:n])
		out = out[n:]
		r.bytes += int64(len(p))
		if err := r.dst.Write(p); err != nil {
			return writeError{err}
		}
		r.share.Moved(n)
	}
	return nil
}

// fill reads the next bytes of a payload.
func (r *redirect) fill(p []byte) error {
	if _, err := r.src.Read(p); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return errTruncated
		}
		return readError{err}
	}
	r.progress.moved()
	r.share.Moved(len(p))
	return nil
}

// move forwards the next piece of the payload, behind the prefix if nprefix is not 0. It waits until the piece is
// whole: less of a message is of no use to anybody.
func (r *redirect) move(nprefix int) error {
	n := int(min(r.left, int64(pieceLen-nprefix)))
	p := r.dst.Piece(nprefix + n)
	copy(p, r.prefix[:nprefix])
	if n > 0 {
		if err := r.fill(p[nprefix:]); err != nil {
			return err
		}
	}
	r.left -= int64(n)
	r.bytes += int64(len(p))
	if err := r.dst.Write(p); err != nil {
		return writeError{err}
	}
	return nil
}

// progress counts what was read to be forwarded: frames, or pieces of them.
type progress struct{ n atomic.Uint32 }

// moved notes that something was read. p may be nil.
func (p *progress) moved() {
	if p != nil {
		p.n.Add(1)
	}
}

// count returns how much was read so far, as a number that wraps around.
func (p *progress) count() uint32 { return p.n.Load() }
