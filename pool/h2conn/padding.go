package h2conn

import "golang.org/x/net/http2"

// unpadded returns the fragment of a header block in the payload of a HEADERS frame (RFC 9113 §6.2), without padding and
// priority. It returns false if the payload is too short for these.
func unpadded(p []byte, flags http2.Flags) (fragment []byte, ok bool) {
	padding := 0
	if flags.Has(http2.FlagHeadersPadded) {
		if len(p) == 0 {
			return nil, false
		}
		padding, p = int(p[0]), p[1:]
	}
	if flags.Has(http2.FlagHeadersPriority) {
		const priorityLen = 5
		if len(p) < priorityLen {
			return nil, false
		}
		p = p[priorityLen:]
	}
	if padding > len(p) {
		return nil, false
	}
	return p[:len(p)-padding], true
}

// ofBlock reports whether the frame with the header h is part of a header block: HEADERS or CONTINUATION.
func ofBlock(h []byte) bool {
	return http2.FrameType(h[3]) == http2.FrameHeaders || http2.FrameType(h[3]) == http2.FrameContinuation
}
