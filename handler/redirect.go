package handler

import (
	"encoding/binary"
	"errors"
	"io"
)

const (
	prefixLen = 5 // compressed flag and message length, gRPC over HTTP/2 "Length-Prefixed-Message"

	// pieceLen is how much of a message is copied at once, prefix included, so that memory does not grow with messages.
	// With its spare bytes it is a size that mcache has.
	pieceLen = 32<<10 - spareLen
)

// Errors of redirect.step that say what is wrong with the frames themselves.
var (
	errTooLarge  = errors.New("message is over the limit")
	errBadFlag   = errors.New("compressed flag of a frame is neither 0 nor 1")
	errTruncated = errors.New("stream ended within a message")
)

// readError and writeError tell whose stream failed.
type (
	readError  struct{ err error }
	writeError struct{ err error }
)

func (e readError) Error() string  { return "read: " + e.err.Error() }
func (e readError) Unwrap() error  { return e.err }
func (e writeError) Error() string { return "write: " + e.err.Error() }
func (e writeError) Unwrap() error { return e.err }

// frameReader reads a stream: Read fills p, or fails with io.EOF at the clean end of the stream.
type frameReader interface {
	Read(p []byte) (int, error)
}

// frameWriter writes a stream. Piece returns n bytes to fill; Write takes over p, which Piece returned.
type frameWriter interface {
	Piece(n int) []byte
	Write(p []byte) error
}

// redirect copies gRPC frames of one direction of a call, in pieces and unchanged. It is used by one goroutine at a
// time.
type redirect struct {
	src      frameReader
	dst      frameWriter
	maxBytes int64 // of one message; 0 means no limit

	prefix   [prefixLen]byte
	left     int64 // payload bytes of the current message to come
	messages int64
	bytes    int64 // moved so far, prefixes included
}

// redirectFrame copies frames until the source ends. It returns nil when that was between two messages, else a
// readError, a writeError, errTooLarge, errBadFlag or errTruncated.
func (r *redirect) redirectFrame() error {
	for {
		if end, err := r.step(); end || err != nil {
			return err
		}
	}
}

// step moves the next piece and reports whether the source ended instead.
func (r *redirect) step() (end bool, err error) {
	if r.left > 0 {
		return false, r.move(0)
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
	n := int64(binary.BigEndian.Uint32(r.prefix[1:]))
	switch {
	case r.prefix[0] > 1:
		return false, errBadFlag
	case r.maxBytes > 0 && n > r.maxBytes:
		return false, errTooLarge
	}
	r.left = n
	r.messages++
	return false, r.move(prefixLen)
}

// move forwards the next piece of the payload, behind the prefix if nprefix is not 0. It waits until the piece is
// whole: less of a message is of no use to anybody.
func (r *redirect) move(nprefix int) error {
	n := int(min(r.left, int64(pieceLen-nprefix)))
	p := r.dst.Piece(nprefix + n)
	copy(p, r.prefix[:nprefix])
	if n > 0 {
		if _, err := r.src.Read(p[nprefix:]); err != nil {
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				return errTruncated
			}
			return readError{err}
		}
	}
	r.left -= int64(n)
	r.bytes += int64(len(p))
	if err := r.dst.Write(p); err != nil {
		return writeError{err}
	}
	return nil
}
