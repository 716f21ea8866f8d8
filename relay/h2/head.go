package h2

import (
	"strconv"

	"github.com/framegate/framegate/relay/h2/hpack"
)

// Head is a header block that was received and checked: a request's headers, an answer's, or trailers.
type Head struct {
	// Fields are all fields in their order, pseudo-header fields first. The slice is valid until the callback returns, unless Stays;
	// the fields are shared and stay.
	Fields []*hpack.Field

	Method, Scheme, Authority, Path *hpack.Field // of a request; nil for one that is missing
	Status                          int          // of an answer; 0 otherwise
	ContentLength                   int64        // -1 without content-length

	End     bool // it ends the stream's direction
	Trailer bool

	// Stays says that the connection remembers the block: the Head stays as it is, and comes again with the next block that has the
	// same bytes, and with the Memo that the owner has left in it.
	Stays bool
	Memo  any

	// Problem is what makes a request malformed (RFC 9113 §8.1.1); empty for all others. Nothing but Fields and End is set then.
	// The owner may answer the request, of which only what the windows and the socket take at once is sent, and may reset the
	// stream. If it has not when Events.Head returns, the connection resets it with PROTOCOL_ERROR.
	Problem string
}

// kind of head, which says which pseudo-header fields there must be.
type headKind uint8

const (
	requestHead headKind = iota
	answerHead
	trailerHead
)

// check sets what the fields of a new Head say, and returns what makes the message malformed (RFC 9113 §8.1.1, §8.2, §8.3), or "".
func (h *Head) check(kind headKind) string {
	h.Trailer = kind == trailerHead
	regular := false
	for _, f := range h.Fields {
		if f.Faults&malformed != 0 {
			return "field " + strconv.QuoteToASCII(clip(f.Name)) + " is not valid"
		}
		if f.Kind.Pseudo() {
			if regular {
				return f.Name + " behind a regular field"
			}
			if problem := h.pseudo(f, kind); problem != "" {
				return problem
			}
			continue
		}
		regular = true
		switch f.Kind {
		case hpack.Connection:
			return "connection-specific field " + f.Name
		case hpack.ContentLength:
			n, err := strconv.ParseUint(f.Value, 10, 63)
			if err != nil || h.ContentLength >= 0 && h.ContentLength != int64(n) {
				return "content-length"
			}
			h.ContentLength = int64(n)
		}
	}
	problem := h.complete(kind)
	if problem == "" && kind != trailerHead && h.End && h.ContentLength > 0 {
		problem = "content-length without DATA"
	}
	return problem
}

// malformed are the faults of a field that make a message malformed.
const malformed = hpack.EmptyName | hpack.BadName | hpack.UnknownPseudo | hpack.BadValue | hpack.BadTE

// pseudo takes a pseudo-header field.
func (h *Head) pseudo(f *hpack.Field, kind headKind) string {
	place := (**hpack.Field)(nil)
	switch f.Kind {
	case hpack.Method:
		place = &h.Method
	case hpack.Scheme:
		place = &h.Scheme
	case hpack.Authority:
		place = &h.Authority
	case hpack.Path:
		place = &h.Path
	case hpack.Status:
		if kind != answerHead || h.Status != 0 {
			return "unexpected or second :status"
		}
		if h.Status = statusOf(f.Value); h.Status == 0 {
			return ":status is no number from 100 to 999"
		}
		return ""
	}
	if place == nil || kind != requestHead || *place != nil {
		return "unexpected or second " + f.Name
	}
	*place = f
	return ""
}

// statusOf returns the number of a :status, or 0 if it is none.
func statusOf(v string) int {
	if len(v) != 3 || v[0] < '1' || v[0] > '9' || v[1] < '0' || v[1] > '9' || v[2] < '0' || v[2] > '9' {
		return 0
	}
	return int(v[0]-'0')*100 + int(v[1]-'0')*10 + int(v[2]-'0')
}

// complete returns which pseudo-header field is missing, or "".
func (h *Head) complete(kind headKind) string {
	switch kind {
	case requestHead:
		switch {
		case h.Method == nil:
			return "no :method"
		case h.Method.Value == "CONNECT": // RFC 9113 §8.5
			if h.Authority == nil || h.Scheme != nil || h.Path != nil {
				return "CONNECT with :scheme or :path, or without :authority"
			}
		case h.Scheme == nil, h.Path == nil, h.Path.Value == "":
			return "no :scheme or no :path"
		}
	case answerHead:
		if h.Status == 0 {
			return "no :status"
		}
	}
	return ""
}

// clip bounds a text from a peer that goes into an error.
func clip(s string) string { return s[:min(len(s), 64)] }
