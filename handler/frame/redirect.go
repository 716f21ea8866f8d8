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
	// PrefixLen is the length of a frame's prefix: compressed flag and message length (gRPC over HTTP/2,
	// "Length-Prefixed-Message").
	PrefixLen = 5

	// pieceLen is how many bytes are copied at once, prefix included, so that memory does not grow with messages. With
	// spareLen it is a power of two, the sizes that package mcache allocates.
	pieceLen = 32<<10 - spareLen
)

// Reader reads a stream. Read fills p or fails: with io.EOF if the stream has ended, with io.ErrUnexpectedEOF if it ended
// within p.
type Reader interface {
	Read(p []byte) (int, error)
}

// Writer writes a stream. Piece returns n bytes for the caller to fill. Write takes p over, which Piece must have returned,
// and may block while the receiver's flow-control window is full.
type Writer interface {
	Piece(n int) []byte
	Write(p []byte) error
}

// Taker handles whole messages. TakeMessage returns the payload to forward with the same compressed flag, which may be payload
// itself, or forward false if nothing is to be forwarded. It keeps neither slice.
type Taker interface {
	TakeMessage(flag byte, payload []byte) (out []byte, forward bool, err error)
}

// Redirect copies the gRPC frames of one direction of a call: unchanged and in pieces or, with a Taker, message by message.
// It is used by one goroutine at a time.
type Redirect struct {
	Src      Reader
	Dst      Writer
	Taker    Taker     // nil in frame mode
	MaxBytes int64     // of one message's payload; 0 means no limit
	Progress *Progress // counts what was read; may be nil

	prefix   [PrefixLen]byte // of the current message
	left     int64           // payload bytes of the current message that are still to come
	Messages int64           // begun so far
	Bytes    int64           // forwarded so far, prefixes included

	Share *budget.Share // what the current message takes of the budget; nil for no bound
	whole []byte        // buffer for the payload of the current message, with a Taker
	Held  []byte        // payload that TakeMessage returned and that the next Step forwards; nil if there is none
}

// RedirectFrame copies frames until the source ends. It returns nil if the source ended between two messages, else a
// ReadError, a WriteError, ErrTooLarge, ErrBadFlag, ErrTruncated or an error of the Taker.
func (r *Redirect) RedirectFrame() error {
	for {
		if end, err := r.Step(); end || err != nil {
			return err
		}
	}
}

// Step copies the next piece; with a Taker, it reads the next message and hands it to the Taker, or forwards the message
// that is held. It reports whether the source has ended instead. Errors are as for RedirectFrame.
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

// wholeKept is how large a buffer a Redirect keeps for the next message. A message that fits into it takes nothing of the
// budget while it is received and sent: a stream may hold as much in its flow-control window anyway.
const wholeKept = 64 << 10

// take reads a payload of n bytes, hands it to the Taker, and holds what is to be forwarded. The buffer grows with the bytes
// that have come, not with the length that the prefix announces.
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

// beyondKept returns how much of the budget a message takes while it is held.
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

// move forwards the next piece of the payload, behind the prefix if nprefix is PrefixLen and not 0. It waits until the piece
// is complete, because the receiver cannot use a part of a message.
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

// Progress counts the prefixes and pieces that were read, so that an idle timer sees whether a call goes on. It is safe for
// concurrent use.
type Progress struct{ n atomic.Uint32 }

// Moved adds one to the count. p may be nil.
func (p *Progress) Moved() {
	if p != nil {
		p.n.Add(1)
	}
}

// Count returns the count, which wraps around.
func (p *Progress) Count() uint32 { return p.n.Load() }
